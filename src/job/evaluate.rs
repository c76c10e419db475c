//! Owns evaluating tokenizers: every image of the inputs beside what each model makes of it, part by
//! part, so that a run that was stopped goes on where it was. Must not know: how pictures are compared,
//! how results are shown.

use std::path::PathBuf;

use image::RgbImage;
use rayon::prelude::*;
use serde_json::json;

use super::evaluation_folder::{self, EvaluationFolder};
use super::events::{Event, Observer};
use super::inputs::Inputs;
use super::pairs::{Made, reconstruct};
use super::places;
use super::reconstruct::refuse_tokens;
use super::tokenizer::Tokenizer;
use crate::data::SourceImage;
use crate::data::prepare::Preparation;
use crate::data::source::labels::LabelLevel;
use crate::data::source::library::Library;
use crate::error::{Error, Result};
use crate::evaluate::compare::Judges;
use crate::evaluate::figures::{EvaluationReport, ModelFigures};
use crate::evaluate::page::{self, Pictures};
use crate::evaluate::reference::Reference;
use crate::evaluate::rows::{Found, Part, Row};
use crate::evaluate::tally::Tally;
use crate::evaluate::worst::Worst;
use crate::pipeline;
use crate::storage;
use crate::util::settings::{self, INCEPTION, MODEL, OUT, REFERENCE};
use crate::util::text;

/// Images of a part: what a run that is stopped loses at most.
const PART: usize = 256;

/// Tokenizers judged by what they make of the same images.
#[derive(Debug, Clone)]
pub struct Evaluate {
    inputs: Inputs,
    label_level: Option<LabelLevel>,
    out: Option<PathBuf>,
    lpips: Option<PathBuf>,
    inception: Option<PathBuf>,
    reference: Option<PathBuf>,
    worst: usize,
}

/// What all parts of a run have in common.
struct Run<'a> {
    judges: Judges,
    level: LabelLevel,
    folder: Option<EvaluationFolder>,
    reference: Option<Reference>,
    preparations: Vec<Preparation>,
    library: Library,
    tokenizers: &'a mut [Tokenizer],
    tallies: Vec<Tally>,
    worst: Worst,
}

/// Images of one part whose features are known: as a model took them, and what Inception sees.
type Seen = Vec<Option<(RgbImage, Vec<f32>)>>;

impl Evaluate {
    /// On the images under `inputs` (folders, files, containers, lists).
    pub fn new<P: Into<PathBuf>>(inputs: impl IntoIterator<Item = P>) -> Evaluate {
        Evaluate::of(Inputs::new(inputs))
    }

    pub(crate) fn of(inputs: Inputs) -> Evaluate {
        let (label_level, out, lpips, inception, reference) = Default::default();
        Evaluate { inputs, label_level, out, lpips, inception, reference, worst: 24 }
    }

    /// The column of tables and lists, or the extension of tars' members, that is the image; found
    /// by type and name where it isn't given.
    pub fn image_column(mut self, name: impl Into<Option<String>>) -> Evaluate {
        self.inputs.fields.image = name.into();
        self
    }

    /// The column, field or key that is the label; found by its name where it isn't given.
    pub fn label_column(mut self, name: impl Into<Option<String>>) -> Evaluate {
        self.inputs.fields.label = name.into();
        self
    }

    /// Which folder of a key is its label; by default the first, or the second where all first ones are
    /// splits.
    pub fn label_level(mut self, level: impl Into<Option<LabelLevel>>) -> Evaluate {
        self.label_level = level.into();
        self
    }

    /// Takes hidden and system files and folders too.
    pub fn hidden(mut self, hidden: bool) -> Evaluate {
        self.inputs.hidden = hidden;
        self
    }

    /// Keeps what is found of each image in this folder, from which a run that was stopped goes on.
    pub fn out(mut self, dir: impl Into<Option<PathBuf>>) -> Evaluate {
        self.out = dir.into();
        self
    }

    /// Weights of LPIPS: AlexNet or VGG16 with the package's heads, in a file or a folder of files.
    pub fn lpips(mut self, weights: impl Into<Option<PathBuf>>) -> Evaluate {
        self.lpips = weights.into();
        self
    }

    /// Weights of `pytorch-fid`'s Inception v3, for the Fréchet distance of whole sets.
    pub fn inception(mut self, weights: impl Into<Option<PathBuf>>) -> Evaluate {
        self.inception = weights.into();
        self
    }

    /// Folder of an earlier evaluation with the same weights of Inception, against whose images
    /// reconstructions are held too, by Fréchet distance.
    pub fn reference(mut self, dir: impl Into<Option<PathBuf>>) -> Evaluate {
        self.reference = dir.into();
        self
    }

    /// Images on which models do worst that are reported; 24 by default.
    pub fn worst(mut self, images: usize) -> Evaluate {
        self.worst = images;
        self
    }

    /// Everything that can be refused before a model is opened.
    ///
    /// # Errors
    /// Inputs that are tokens; a folder that can't be written, or is a model's or an output's.
    pub fn check(&self) -> Result<()> {
        refuse_tokens(&self.inputs.paths)?;
        let Some(out) = &self.out else { return Ok(()) };
        places::refuse_empty(OUT, out)?;
        places::check_outside(OUT, out)?;
        if places::holds_model(out) {
            let text = format!("{}: it holds a model; give a folder of its own", text::path(out));
            return Err(Error::setting(OUT, text));
        }
        places::writable_folder(OUT, out)?;
        // Files that are kept among the images would be some of the next run's.
        storage::opening(|| {
            self.inputs.check_folder(out).and_then(|()| self.inputs.check_picture(out))
        })
    }

    /// Runs the job on models that were opened, each with its own preparation of images.
    ///
    /// # Errors
    /// Those of [`Evaluate::check`]; no image, or none that can be reconstructed; a model without
    /// encoder or decoder; weights that aren't whole; a folder of another evaluation;
    /// [`Error::Interrupted`] where the observer says so.
    pub fn run(
        &self,
        tokenizers: &mut [Tokenizer],
        observer: &mut dyn Observer,
    ) -> Result<EvaluationReport> {
        self.check()?;
        storage::resumable(|| self.run_now(tokenizers, observer))
    }

    fn run_now(
        &self,
        tokenizers: &mut [Tokenizer],
        observer: &mut dyn Observer,
    ) -> Result<EvaluationReport> {
        if tokenizers.is_empty() {
            return Err(Error::setting(MODEL, "is missing: give at least one"));
        }
        let preparations = preparations(tokenizers)?;
        let images = self.count(observer)?;
        let judges = Judges::open(self.lpips.as_deref(), self.inception.as_deref())?;
        let reference = self.read_reference(&judges)?;
        let level = self.label_level.unwrap_or_else(|| self.inputs.label_layout().level());
        let folder = self.folder(&judges, level, tokenizers, &preparations)?;
        let counted = |tokenizer: &Tokenizer| {
            Tally::new((!tokenizer.counts_bits()).then(|| tokenizer.codes()))
        };
        let tallies = tokenizers.iter().map(counted).collect();
        let (worst, library) = (Worst::new(self.worst), Library::default());
        let mut run = Run {
            judges,
            level,
            folder,
            reference,
            preparations,
            library,
            tokenizers,
            tallies,
            worst,
        };
        observer.event(&Event::Begin { stage: "evaluate", images });
        let mut stream = self.inputs.images(self.inputs.take(), true)?;
        for part in 0.. {
            let some = stream.by_ref().take(PART).collect::<Result<Vec<SourceImage>>>()?;
            if some.is_empty() {
                break;
            }
            run.part(part, &some, observer)?;
        }
        run.finish(images)
    }

    /// The number of the inputs' images, at least one.
    fn count(&self, observer: &mut dyn Observer) -> Result<u64> {
        let mut listing = self.inputs.images(self.inputs.take(), true)?;
        let mut images = 0;
        for image in listing.by_ref() {
            image?;
            images += 1;
        }
        observer.event(&Event::Listed(&listing.skipped()));
        match images {
            0 => Err(Error::invalid("no image under the inputs: nothing to evaluate")),
            images => Ok(images),
        }
    }

    /// The images that reconstructions are held against.
    fn read_reference(&self, judges: &Judges) -> Result<Option<Reference>> {
        let Some(dir) = &self.reference else { return Ok(None) };
        match &judges.inception {
            Some(inception) => evaluation_folder::reference(dir, &inception.digest).map(Some),
            None => {
                let text = format!("needs {INCEPTION}: features are what is compared");
                Err(Error::setting(REFERENCE, text))
            }
        }
    }

    fn folder(
        &self,
        judges: &Judges,
        level: LabelLevel,
        tokenizers: &[Tokenizer],
        preparations: &[Preparation],
    ) -> Result<Option<EvaluationFolder>> {
        let Some(out) = &self.out else { return Ok(None) };
        let mut models = serde_json::Map::new();
        for (at, (tokenizer, preparation)) in tokenizers.iter().zip(preparations).enumerate() {
            let identity = pipeline::identity(tokenizer.engine.as_ref(), preparation, PART)?;
            models.insert(evaluation_folder::name(at), json!(identity));
        }
        let settings = json!({
            "schema": "evaluation.v1",
            "models": models,
            "inputs": self.inputs.taken(),
            "label_level": level.to_string(),
            "lpips": judges.perceptual.as_ref().map(|network| &network.digest),
            "inception": judges.inception.as_ref().map(|network| &network.digest),
        });
        EvaluationFolder::open(out, &settings, tokenizers.len()).map(Some)
    }

    /// The report as one HTML page, which needs nothing beside it: models side by side, and what they
    /// make of the worst images.
    ///
    /// # Errors
    /// Those of [`Evaluate::run`] on these images.
    pub fn page(
        &self,
        report: &EvaluationReport,
        tokenizers: &mut [Tokenizer],
        observer: &mut dyn Observer,
    ) -> Result<String> {
        let library = Library::default();
        let sources: Vec<SourceImage> =
            report.worst.iter().map(|image| image.source.clone()).collect();
        let mut pictures: Vec<Pictures> = sources.iter().map(|_| Pictures::default()).collect();
        let preparations = preparations_of(tokenizers)?;
        for (tokenizer, preparation) in tokenizers.iter_mut().zip(preparations) {
            let together = tokenizer.images_together(&preparation);
            for (some, pictures) in sources.chunks(together).zip(pictures.chunks_mut(together)) {
                if observer.interrupted() {
                    return Err(Error::Interrupted);
                }
                let made = reconstruct(some, &library, &preparation, tokenizer)?;
                for (made, pictures) in made.outcomes.into_iter().zip(pictures) {
                    pictures.push(made.ok().map(|made| made.pair));
                }
            }
        }
        Ok(settings::plain(&page::render(report, &self.inputs.names(), &pictures)?))
    }
}

fn preparations_of(tokenizers: &[Tokenizer]) -> Result<Vec<Preparation>> {
    tokenizers.iter().map(Tokenizer::bounded_preparation).collect()
}

/// What images become for each model, which can encode and decode.
fn preparations(tokenizers: &[Tokenizer]) -> Result<Vec<Preparation>> {
    tokenizers.iter().try_for_each(Tokenizer::require_decoder)?;
    preparations_of(tokenizers)
}

impl Run<'_> {
    /// Judges some images that follow each other by every model.
    fn part(
        &mut self,
        part: usize,
        some: &[SourceImage],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut seen: Seen = vec![None; some.len()];
        let mut parts = Vec::new();
        for model in 0..self.tokenizers.len() {
            let keys = some.iter().map(|image| image.key.as_str());
            let known = match &self.folder {
                Some(folder) => folder.read([model, part], keys)?,
                None => None,
            };
            let found = match known {
                Some(found) => found,
                None => {
                    let found = self.judge(model, some, &mut seen, observer)?;
                    if let Some(folder) = &self.folder {
                        folder.write([model, part], &found)?;
                    }
                    found
                }
            };
            self.tallies[model].add(&found).map_err(|reason| match &self.folder {
                Some(folder) => folder.damaged([model, part], reason),
                None => Error::internal(reason),
            })?;
            parts.push(found);
        }
        for (at, source) in some.iter().enumerate() {
            let rows: Vec<&Row> = parts.iter().map(|part| &part.rows[at]).collect();
            self.worst.take(source, &rows);
            observer.event(&Event::Audited);
        }
        Ok(())
    }

    fn judge(
        &mut self,
        model: usize,
        some: &[SourceImage],
        seen: &mut Seen,
        observer: &mut dyn Observer,
    ) -> Result<Part> {
        let preparation = self.preparations[model].clone();
        let together = self.tokenizers[model].images_together(&preparation);
        let counted = !self.tokenizers[model].counts_bits();
        let mut part = Part::default();
        for (some, seen) in some.chunks(together).zip(seen.chunks_mut(together)) {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let tokenizer = &mut self.tokenizers[model];
            let made = reconstruct(some, &self.library, &preparation, tokenizer)?;
            part.seconds += made.seconds;
            for (source, made) in some.iter().zip(&made.outcomes) {
                if let Err(reject) = made {
                    reject.refuse_outage(&source.key)?;
                    observer.event(&Event::Unreconstructed { key: &source.key, reject });
                }
            }
            let work = made.outcomes.into_par_iter().zip(some).zip(seen);
            let (judges, level) = (&self.judges, self.level);
            let rows = work.map(|((made, source), seen)| {
                let label = level.label_beside(source.facts.label.as_deref(), &source.key);
                Row {
                    key: source.key.clone(),
                    label: label.map(str::to_string),
                    image: made.as_ref().map_or([0; 2], |made| made.image),
                    found: match made {
                        Ok(made) => Ok(compared(judges, made, seen, counted)),
                        Err(reject) => Err(reject.to_string()),
                    },
                }
            });
            part.rows.extend(rows.collect::<Vec<Row>>());
        }
        Ok(part)
    }

    fn finish(self, images: u64) -> Result<EvaluationReport> {
        let mut models = Vec::new();
        for (tokenizer, tally) in self.tokenizers.iter().zip(self.tallies) {
            models.push(ModelFigures {
                model: text::lossy(&tokenizer.model).into_owned(),
                family: tokenizer.family().to_string(),
                weights_sha256: tokenizer.engine.digests()?.weights_sha256.clone(),
                ..tally.figures(self.reference.as_ref())?
            });
        }
        if models.iter().all(|model| model.means.images == 0) {
            return Err(Error::invalid("no image could be reconstructed; see above why"));
        }
        let Judges { perceptual, inception } = &self.judges;
        Ok(EvaluationReport {
            schema: "evaluation-figures.v1",
            images,
            lpips_network: perceptual.as_ref().map(|network| network.network),
            lpips_sha256: perceptual.as_ref().map(|network| network.digest.clone()),
            inception_sha256: inception.as_ref().map(|network| network.digest.clone()),
            reference_images: self.reference.as_ref().map(Reference::count),
            models,
            worst: self.worst.finish(),
        })
    }
}

/// What is found of a pair; features of the image are taken over where an earlier model took the same
/// pixels.
fn compared(
    judges: &Judges,
    made: Made,
    seen: &mut Option<(RgbImage, Vec<f32>)>,
    counted: bool,
) -> Found {
    let Made { pair: (image, output), codes, .. } = made;
    let likeness = judges.compare(&image, &output);
    let features = judges.inception.as_ref().map(|inception| {
        let known = seen.as_ref().filter(|(other, _)| *other == image);
        let of_image = known.map(|(_, features)| features.clone());
        let of_image = of_image.unwrap_or_else(|| inception.features(&image));
        *seen = Some((image.clone(), of_image.clone()));
        [of_image, inception.features(&output)]
    });
    let levels = codes.levels.iter().filter(|_| counted);
    let (codes, grids) = levels.fold((Vec::new(), Vec::new()), |(mut codes, mut grids), grid| {
        codes.extend_from_slice(&grid.codes);
        grids.extend([grid.height as u32, grid.width as u32]);
        (codes, grids)
    });
    Found { size: [image.width(), image.height()], likeness, codes, grids, features }
}
