//! Owns `vqtok evaluate`: tokenizers judged on whole data sets, side by side.

use super::common::{CheckpointFlags, MachineFlags, PixelFlags};
use super::inputs::InputFlags;
use super::onnx::{OnnxFlags, RuntimeFlags};
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::signals::stop_flag;
use crate::data::source::labels::LabelLevel;
use crate::error::{Error, Result};
use crate::evaluate::figures::{EvaluationReport, GroupFigures, ModelFigures};
use crate::evaluate::inception::FEATURES;
use crate::job::{Evaluate, Inputs, Tokenizer, places};
use crate::util::html::short;
use crate::util::numbers::{bytes, count, counted};
use crate::util::overwrite::{self, Foreign};
use crate::util::settings::{HTML, JSON};
use crate::util::text;
use serde_json::json;
use std::path::PathBuf;

/// Flags of `vqtok evaluate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputFlags,
    /// Tokenizer: a folder or checkpoint file with encoder and decoder; give several to compare them on
    /// the same images
    #[arg(long, value_name = "PATH", required = true)]
    model: Vec<PathBuf>,
    /// Weights of LPIPS, a file or a folder of files: torchvision's AlexNet or VGG16 and the heads of
    /// the lpips package (.pth or .safetensors); never downloaded [default: no LPIPS]
    #[arg(long, value_name = "PATH")]
    lpips: Option<PathBuf>,
    /// Weights of rFID: pytorch-fid's Inception v3, pt_inception-2015-12-05 (.pth or .safetensors);
    /// never downloaded [default: no rFID]
    #[arg(long, value_name = "PATH")]
    inception: Option<PathBuf>,
    /// Folder (--out) of an earlier evaluation with the same --inception, such as of the training set:
    /// reconstructions are held against its images too, by Fréchet distance [default: none]
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Folder that keeps what is found of each image, with features: a run that was stopped goes on from
    /// it [default: none]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Figures of every model, label and size, as one JSON object [default: none]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A page with the models side by side on the same images, the worst first [default: none]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Replace files of the same names that vqtok didn't write
    #[arg(long)]
    overwrite: bool,
    /// Images that models do worst on, in --json and --html
    #[arg(long, value_name = "N", default_value_t = 24)]
    worst: usize,
    /// Column, tar field or key of a JSON file with the class [default: label, class or cls]
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Which folder of an image's path below its INPUT is its label: 0 for the first, 1 for the second,
    /// ..., or none [default: 0, or 1 where all first folders are splits]
    #[arg(long, value_name = "0|1|..|none")]
    label_level: Option<LabelLevel>,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    onnx: OnnxFlags,
    #[command(flatten)]
    runtime: RuntimeFlags,
    #[command(flatten)]
    pixels: PixelFlags,
    #[command(flatten)]
    machine: MachineFlags,
    /// Print events as JSON on stdout, one object per line
    #[arg(long)]
    pub(super) events: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.machine.start_threads()?;
    let foreign = Foreign::overwritten(args.overwrite);
    let inputs: Inputs = args.inputs.clone().into();
    let job = Evaluate::of(inputs.clone())
        .label_column(args.label_column.clone())
        .label_level(args.label_level)
        .out(args.out.clone())
        .lpips(args.lpips.clone())
        .inception(args.inception.clone())
        .reference(args.reference.clone())
        .worst(args.worst);
    job.check()?;
    args.check_places(&inputs, foreign)?;
    let options = args.machine.options(&args.checkpoint, &args.pixels)?;
    let options = args.runtime.over(args.onnx.over(options));
    let mut tokenizers =
        args.model.iter().map(|model| options.open(model)).collect::<Result<Vec<Tokenizer>>>()?;
    let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
    let report = job.run(&mut tokenizers, &mut printer)?;
    let page = match &args.html {
        Some(path) => Some((path, job.page(&report, &mut tokenizers, &mut printer)?)),
        None => None,
    };
    printer.close();
    reporter.result("figures", &tables(&report), json!({"models": report.models}));
    if let Some(path) = &args.json {
        let mut json = serde_json::to_vec_pretty(&report)
            .map_err(|error| Error::internal(format!("the figures are no JSON: {error}")))?;
        json.push(b'\n');
        overwrite::write(path, &json, foreign)?;
    }
    let failed = report.models.iter().map(|model| model.failed).max().unwrap_or(0);
    let mut summary = counted(report.images, "image");
    if failed > 0 {
        summary += &format!(", {} failed", count(failed));
    }
    if let Some((path, page)) = page {
        overwrite::write(path, page.as_bytes(), foreign)?;
        summary += &format!("; {}: {}", text::path(path), bytes(page.len() as u64));
    }
    let fields = json!({"images": report.images, "failed": failed});
    reporter.result("evaluated", &summary, fields);
    Ok(Finished::of(failed == 0))
}

impl Args {
    /// Refuses places that nothing can be written to, before any work.
    fn check_places(&self, inputs: &Inputs, foreign: Foreign) -> Result<()> {
        let files = [(JSON, &self.json), (HTML, &self.html)];
        let files = files.into_iter().filter_map(|(setting, path)| Some((setting, path.as_ref()?)));
        let written: Vec<places::Written<'_>> = files
            .map(|(setting, path)| (setting, path.as_path(), overwrite::is_ours(path)))
            .collect();
        let read = self.model.iter().chain(&self.checkpoint.model_config);
        let read = read.chain(&self.lpips).chain(&self.inception).chain(&self.reference);
        let read = read.map(PathBuf::as_path).collect();
        let inputs = places::Inputs { tokens: Vec::new(), model: read, source: Some(inputs) };
        places::refuse_inputs(&written, &inputs)?;
        written.iter().try_for_each(|&(setting, path, _)| match setting == HTML {
            true => places::check_page(setting, path, foreign),
            false => places::check_plain(setting, path, foreign),
        })
    }
}

/// Labels or sizes that are shown; the JSON has all.
const GROUPS_MAX: usize = 20;

/// What every model comes to, then labels and sizes.
fn tables(report: &EvaluationReport) -> String {
    let heads = [
        "model",
        "PSNR dB",
        "SSIM",
        "MS-SSIM",
        "LPIPS",
        "rFID",
        "FID to ref",
        "used",
        "perplexity",
        "bits/token",
        "images/s",
    ];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(report.models.iter().map(model_row));
    if report.reference_images.is_none() {
        rows.iter_mut().for_each(|row| drop(row.remove(TO_REFERENCE)));
    }
    let mut shown = aligned(&rows);
    let labels: fn(&ModelFigures) -> &Vec<GroupFigures> = |model| &model.labels;
    for (of, title) in [(labels, "label"), (|model| &model.sizes, "shorter side")] {
        shown += &groups(report, of, title);
    }
    if let Some(images) = few_images(report) {
        shown += &format!(
            "\nrFID of {}, fewer than the {} numbers that describe one, is low by chance: compare it \
             with that of as many images only\n",
            counted(images, "image"),
            count(FEATURES)
        );
    }
    shown
}

/// Images of an rFID that are too few for it.
fn few_images(report: &EvaluationReport) -> Option<u64> {
    let judged = report.models.iter().filter(|model| model.rfid.is_some());
    judged.map(|model| model.means.images).min().filter(|&images| images < FEATURES)
}

/// The column of what needs a reference.
const TO_REFERENCE: usize = 6;

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

fn model_row(model: &ModelFigures) -> Vec<String> {
    let means = &model.means;
    vec![
        text::printable(&model.model).into_owned(),
        shown(means.psnr_db, 3),
        shown(means.ssim, 4),
        shown(means.ms_ssim, 4),
        shown(means.lpips, 4),
        shown(model.rfid, 3),
        shown(model.fid_to_reference, 3),
        model.usage.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share)),
        model.perplexity.map_or("-".into(), short),
        shown(model.bits_per_token, 2),
        model.images_per_second.map_or("-".into(), short),
    ]
}

fn groups(
    report: &EvaluationReport,
    of: fn(&ModelFigures) -> &Vec<GroupFigures>,
    title: &str,
) -> String {
    let Some(most) = report.models.iter().map(of).max_by_key(|groups| groups.len()) else {
        return String::new();
    };
    if most.is_empty() {
        return String::new();
    }
    let mut heads = vec![title.to_string(), "images".into()];
    for model in 0..report.models.len() {
        let which = if report.models.len() > 1 { format!(" {}", model + 1) } else { String::new() };
        heads.extend(["PSNR dB", "SSIM", "LPIPS"].map(|what| format!("{what}{which}")));
    }
    let mut rows = vec![heads];
    for group in most.iter().take(GROUPS_MAX) {
        let mut row = vec![text::printable(&group.of).into_owned(), count(group.means.images)];
        for model in &report.models {
            let own = of(model).iter().find(|own| own.of == group.of).map(|own| &own.means);
            row.push(shown(own.and_then(|means| means.psnr_db), 3));
            row.push(shown(own.and_then(|means| means.ssim), 4));
            row.push(shown(own.and_then(|means| means.lpips), 4));
        }
        rows.push(row);
    }
    let more = match most.len().checked_sub(GROUPS_MAX) {
        Some(more @ 1..) => {
            format!("{} more: see {}\n", count(more as u64), JSON)
        }
        _ => String::new(),
    };
    format!("\n{}{more}", aligned(&rows))
}

/// The first column on the left, numbers on the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["model", "SSIM"], ["a", "0.5"], ["a longer one", "-"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.map(String::from).to_vec()).collect();
        assert_eq!(aligned(&rows), "model         SSIM\na              0.5\na longer one     -\n");
    }
}
