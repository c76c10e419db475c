//! Owns `vqtok audit`: what is in an output.

use super::audit_sample;
use super::common::CheckpointFlags;
use super::flags::remark;
use super::onnx::{OnnxFlags, RuntimeFlags};
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::signals::stop_flag;
use crate::engine::{DeviceChoice, Precision};
use crate::error::{Error, Result};
use crate::findings::codes::{ON_PAGE, PICTURES_MAX};
use crate::findings::{FailuresFound, Findings, Kind};
use crate::job::places::Written;
use crate::job::{Audit, EngineChoice, Tokenizer, places, set_threads};
use crate::util::numbers::{bytes, count, counted};
use crate::util::overwrite::{self, Foreign};
use crate::util::settings::{
    AGAINST, CODE_PICTURES, CODES, FAIL_ON, FAMILY, HTML, JSON, LAYOUT, MEAN, MODEL, MODEL_CONFIG,
    ONNXRUNTIME, REMOVE_LIST, SAVE_INDEX, SCALES, SOURCE, STD, THRESHOLD, WEIGHTS,
};
use crate::util::text;
use serde_json::json;
use std::path::PathBuf;

/// Flags of `vqtok audit`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output folder of `vqtok tokenize`, or any Parquet with tokens
    input: PathBuf,
    /// Tokenizer that made the tokens; without one, only what needs none is looked for [default: none]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Another output of the same model, or a saved index: images that both have are leaks [default: none]
    #[arg(long, value_name = "DIR|FILE")]
    against: Option<PathBuf>,
    /// What it takes to find these images again, as a Parquet file that an audit of others takes instead of the output [default: none]
    #[arg(long, value_name = "FILE")]
    save_index: Option<PathBuf>,
    /// A page of what was found, one self-contained HTML file [default: none]
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Every code alone and in its commonest neighbourhood, the most used first, as a PNG file [default: none]
    #[arg(long, value_name = "FILE.png")]
    code_pictures: Option<PathBuf>,
    /// The images that the tokens were made of: shown on the page, and with a model compared with what it makes of their tokens; may be repeated [default: none]
    #[arg(long, value_name = "INPUT")]
    source: Vec<PathBuf>,
    /// Rows whose images of the source are compared with what the model makes of their tokens
    #[arg(long, value_name = "N", default_value_t = 200)]
    sample: usize,
    /// Encode the sample again by this engine, and say which tokens change; may be repeated [default: none]
    #[arg(long, value_name = "ENGINE")]
    precision_audit: Vec<Engine>,
    /// Everything that was found, as one JSON object [default: none]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The keys of the duplicates that needn't be kept, one a line [default: none]
    #[arg(long, value_name = "FILE")]
    remove_list: Option<PathBuf>,
    /// Beginning of keys that are kept before others; may be repeated [default: the largest image]
    #[arg(long, value_name = "PREFIX")]
    keep: Vec<String>,
    /// Similarity from which two images count as one [default: estimated, and printed]
    #[arg(long, value_name = "0.6-1")]
    threshold: Option<f64>,
    /// Findings that make the exit code 1; may be repeated [default: all]
    #[arg(long, value_name = "KIND")]
    fail_on: Vec<FailOn>,
    /// Use the model even where the tokens name another
    #[arg(long)]
    force: bool,
    /// Replace files of the same names that vqtok didn't write
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    onnx: OnnxFlags,
    #[command(flatten)]
    runtime: RuntimeFlags,
    /// Worker threads [default: RAYON_NUM_THREADS, else every core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print events as JSON on stdout, one object per line
    #[arg(long)]
    pub(super) events: bool,
}

/// What encodes a sample again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Engine {
    /// That of `vqtok tokenize` on the processor.
    Cpu,
    /// The slow one that all others are tested against, on the processor.
    Reference,
    /// The NVIDIA GPU, in float32.
    Cuda,
    /// The NVIDIA GPU, in bfloat16.
    CudaBf16,
}

/// What can make the exit code 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FailOn {
    /// Any of these.
    Any,
    /// Images that are there twice, exactly or nearly.
    Duplicates,
    /// Duplicates with different labels.
    LabelConflicts,
    /// Images that the other output has.
    Leaks,
    /// Images that show hardly anything.
    LowInformation,
    /// Images given up when the output was made, and rows of either output that can't be read.
    Failures,
    /// Shards made with other settings, another output that uses codes otherwise, turned classes.
    Set,
    /// Images unlike the others; only where this is named.
    Outliers,
    /// Images of odd sizes, shapes or modes, and enlarged ones; only where this is named.
    Sizes,
    /// Nothing does.
    None,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let foreign = Foreign::overwritten(args.overwrite);
    let job = args.job();
    set_threads(args.threads)?;
    job.check()?;
    let of_list = args.check_places(&job, foreign)?;
    args.check_used()?;
    let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
    let options = args.runtime.over(args.onnx.over(args.checkpoint.options()));
    let options = options.device(DeviceChoice::Cpu);
    let mut tokenizer = args.model.as_ref().map(|model| options.open(model)).transpose()?;
    if args.code_pictures.is_some() && !tokenizer.as_ref().is_some_and(Tokenizer::has_decoder) {
        let reason =
            format!("are drawn by a decoder: give the {MODEL} that made the tokens, with one");
        return Err(Error::setting(CODE_PICTURES, reason));
    }
    if args.code_pictures.is_some() && tokenizer.as_ref().is_some_and(Tokenizer::counts_bits) {
        let reason = "the model's codes are too many to be counted: none is the most used";
        return Err(Error::setting(CODE_PICTURES, reason));
    }
    let findings = job.run(tokenizer.as_mut(), &mut printer)?;
    let page = match &args.html {
        Some(path) => Some((path, job.marked_page(&findings, tokenizer.as_mut(), &mut printer)?)),
        None => None,
    };
    printer.close();
    let unlisted = args.write(&findings, foreign, of_list)?;
    let mut summary = args.summary(&findings);
    if let Some((path, page)) = page {
        let page = remark(&page);
        overwrite::write(path, page.as_bytes(), foreign)?;
        summary += &format!("; {}: {}", text::path(path), bytes(page.len() as u64));
    }
    for line in in_words(&findings, args.fail_on.contains(&FailOn::Outliers)) {
        reporter.result("finding", &line, json!({"message": line}));
    }
    if unlisted > 0 {
        let line = format!(
            "{} that can go {} a line break: no line of a list names them",
            counted(unlisted, "key"),
            if unlisted == 1 { "has" } else { "have" }
        );
        reporter.result("finding", &line, json!({"message": line}));
    }
    let found = args.fails(&findings);
    reporter.result("audited", &summary, json!({"images": findings.images, "clean": !found}));
    Ok(Finished::of(!found))
}

impl Args {
    fn job(&self) -> Audit {
        Audit::new(&self.input)
            .against(self.against.clone())
            .threshold(self.threshold)
            .keep(&self.keep)
            .source(&self.source)
            .sample(self.sample)
            .code_pictures(match (&self.code_pictures, &self.html) {
                (Some(_), _) => PICTURES_MAX,
                (None, Some(_)) => ON_PAGE,
                (None, None) => 0,
            })
            .precision_audit(self.precision_audit.iter().map(|engine| engine.choice()))
            .force(self.force)
            .save_index(self.save_index.clone())
            .overwrite(self.overwrite)
    }

    /// Refuses places that nothing can be written to, before any work. Gives what becomes of a list that
    /// is there.
    fn check_places(&self, job: &Audit, foreign: Foreign) -> Result<Foreign> {
        let ours = |path: &PathBuf| overwrite::is_ours(path);
        let mut of_list = foreign;
        if let Some(path) = self.remove_list.as_ref().filter(|path| path.exists())
            && job.is_list_of_keys(path)?
        {
            of_list = Foreign::Replace;
        }
        let earlier = of_list == Foreign::Replace && !self.overwrite;
        let files = [(JSON, &self.json), (CODE_PICTURES, &self.code_pictures), (HTML, &self.html)];
        let files = files.into_iter().filter_map(|(setting, path)| Some((setting, path.as_ref()?)));
        let mut written: Vec<Written<'_>> =
            files.map(|(setting, path)| (setting, path.as_path(), ours(path))).collect();
        written.extend(self.remove_list.iter().map(|p| (REMOVE_LIST, p.as_path(), earlier)));
        let model = self.model.iter().chain(&self.checkpoint.model_config);
        job.refuse_inputs(&written, &model.map(PathBuf::as_path).collect::<Vec<_>>())?;
        for (setting, path, _) in written {
            match setting {
                CODE_PICTURES => places::check_png(setting, path, foreign)?,
                HTML => places::check_page(setting, path, foreign)?,
                REMOVE_LIST => places::check_plain(setting, path, of_list)?,
                _ => places::check_plain(setting, path, foreign)?,
            }
        }
        if let Some(path) = &self.save_index {
            places::check_plain(SAVE_INDEX, path, foreign)?;
        }
        Ok(of_list)
    }

    /// Refuses what says something of a model, of pictures, or of another output that nothing was asked
    /// of.
    fn check_used(&self) -> Result<()> {
        if self.fail_on.contains(&FailOn::Leaks) && self.against.is_none() {
            let reason = format!("leaks: are images of another output: give {AGAINST}");
            return Err(Error::setting(FAIL_ON, reason));
        }
        if self.model.is_some() {
            return Ok(());
        }
        let checkpoint = &self.checkpoint;
        let of_model = [
            (FAMILY, checkpoint.family.is_some()),
            (MODEL_CONFIG, checkpoint.model_config.is_some()),
            (WEIGHTS, checkpoint.weights.is_some()),
            (SCALES, checkpoint.scales.is_some()),
            (CODES, self.onnx.codes.is_some()),
            (LAYOUT, self.onnx.layout.is_some()),
            (MEAN, self.onnx.mean.is_some()),
            (STD, self.onnx.std.is_some()),
            (ONNXRUNTIME, self.runtime.onnxruntime.is_some()),
        ];
        if let Some((setting, _)) = of_model.iter().find(|(_, given)| *given) {
            return Err(Error::setting(
                *setting,
                format!("says how to open a model: give {MODEL}"),
            ));
        }
        if self.threshold.is_some() {
            let reason = format!("compares pictures, which a model draws: give {MODEL}");
            return Err(Error::setting(THRESHOLD, reason));
        }
        // An audit of precision says by itself what it needs.
        let shown = self.html.is_some() || !self.precision_audit.is_empty();
        if !self.source.is_empty() && !shown {
            let reason =
                format!("is shown on a page, or compared by a model: give {HTML} or {MODEL}");
            return Err(Error::setting(SOURCE, reason));
        }
        Ok(())
    }

    /// Writes all but the page; gives how many keys the list of what can go couldn't hold.
    fn write(&self, findings: &Findings, foreign: Foreign, of_list: Foreign) -> Result<usize> {
        if let Some(path) = &self.json {
            let mut json = serde_json::to_vec_pretty(findings)
                .map_err(|error| Error::invalid(format!("the findings are no JSON: {error}")))?;
            json.push(b'\n');
            overwrite::write(path, &json, foreign)?;
        }
        if let Some(path) = &self.code_pictures {
            overwrite::write(path, &Audit::code_sheet(findings)?, foreign)?;
        }
        let Some(path) = &self.remove_list else { return Ok(0) };
        let (list, unlisted) = findings.remove_list(&self.keep);
        overwrite::write(path, list.as_bytes(), of_list)?;
        Ok(unlisted)
    }

    fn fails(&self, findings: &Findings) -> bool {
        let any = [FailOn::Any];
        let kinds = if self.fail_on.is_empty() { &any[..] } else { &self.fail_on };
        kinds.iter().any(|kind| kind.is_in(findings))
    }

    fn summary(&self, findings: &Findings) -> String {
        format!("{}: {} looked at", text::path(&self.input), counted(findings.images, "image"))
    }
}

impl Engine {
    fn choice(self) -> EngineChoice {
        match self {
            Engine::Cpu => EngineChoice::Cpu,
            Engine::Reference => EngineChoice::Reference,
            Engine::Cuda => EngineChoice::Cuda(Precision::F32),
            Engine::CudaBf16 => EngineChoice::Cuda(Precision::Bf16),
        }
    }
}

impl FailOn {
    fn is_in(self, findings: &Findings) -> bool {
        match self {
            FailOn::None => false,
            FailOn::Duplicates => !findings.duplicates.is_empty(),
            FailOn::LabelConflicts => {
                findings.duplicates.iter().any(|group| group.label_conflict)
                    || findings.leaks.iter().any(|leak| leak.label_conflict)
            }
            FailOn::Leaks => !findings.leaks.is_empty(),
            FailOn::LowInformation => !findings.low_information.is_empty(),
            FailOn::Set => findings.remarks.iter().any(|remark| remark.finding),
            FailOn::Outliers => !findings.outliers.is_empty(),
            FailOn::Sizes => findings.sizes.any(),
            FailOn::Failures => findings.failures.any(),
            FailOn::Any => {
                use clap::ValueEnum;
                // There is always an image that is the oddest, which is no finding by itself.
                let named = [FailOn::Any, FailOn::Outliers, FailOn::Sizes];
                let mut all = FailOn::value_variants().iter();
                all.any(|kind| !named.contains(kind) && kind.is_in(findings))
            }
        }
    }
}

/// A line for each kind of finding that there is.
fn in_words(findings: &Findings, outliers: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let kinds = [
        (Kind::ExactFile, "the same file"),
        (Kind::ExactPixels, "the same tokens and size"),
        (Kind::Near, "nearly the same"),
    ];
    for (kind, words) in kinds {
        let groups: Vec<_> = findings.duplicates.iter().filter(|g| g.kind == kind).collect();
        let images = findings.images_in(&[kind]);
        if !groups.is_empty() {
            lines.push(format!(
                "{} in {}: {words}",
                counted(images, "image"),
                counted(groups.len(), "group")
            ));
        }
    }
    let mut say = |number: usize, thing: &str, what: &str| {
        if number > 0 {
            lines.push(format!("{}: {what}", counted(number, thing)));
        }
    };
    let conflicts = findings.duplicates.iter().filter(|group| group.label_conflict).count();
    say(conflicts, "group", "one image under several labels");
    say(findings.leaked(), "image", "in the other output as well");
    let conflicts = findings.leaks.iter().filter(|leak| leak.label_conflict).count();
    say(conflicts, "leak", "under another label in the other output");
    say(findings.low_information.len(), "image", "show hardly anything");
    let sizes = &findings.sizes;
    say(sizes.odd.count as usize, "image", "of odd size or shape");
    say(sizes.upscaled.count as usize, "image", "smaller than what the model sees, so enlarged");
    say(sizes.few_modes.count as usize, "image", "of a colour mode that hardly any other has");
    if outliers {
        say(findings.outliers.len(), "image", "least like the others");
    }
    lines.extend(failures(&findings.failures));
    lines.extend(threshold(findings));
    lines.extend(findings.remarks.iter().map(|remark| remark.text.clone()));
    lines.extend(audit_sample::in_words(findings));
    lines
}

/// Images given up, and rows that can't be read.
fn failures(failures: &FailuresFound) -> Vec<String> {
    let mut lines = Vec::new();
    if failures.count > 0 {
        let stages = failures.by_stage.iter();
        let stages: Vec<_> = stages
            .map(|(stage, images)| format!("{} in {}", count(*images), text::printable(stage)))
            .collect();
        let images = counted(failures.count, "image");
        lines.push(format!("{images}: failed to be tokenized ({})", stages.join(", ")));
    }
    if failures.unreadable.rows > 0 {
        let rows = counted(failures.unreadable.rows, "row");
        lines.push(format!("{rows}: can't be read, and in no other number"));
    }
    if let Some(there) = failures.unreadable_against.as_ref().filter(|there| there.rows > 0) {
        let rows = counted(there.rows, "row");
        lines.push(format!("{rows}: can't be read in the other output; their leaks aren't found"));
    }
    lines
}

/// From which similarity images count as one, where any were compared.
fn threshold(findings: &Findings) -> Option<String> {
    let mut line = format!("similarity from {:.3} on counts", findings.threshold?);
    let near = findings.duplicates.iter().any(|group| group.kind == Kind::Near);
    if let Some(pairs) = findings.expected_false_pairs.filter(|_| near) {
        line += &format!("; about {} of the pairs are chance", count(pairs.round() as u64));
    }
    Some(line)
}
