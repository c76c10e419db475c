//! Owns the page of an audit, with the pictures that it shows, as a part of its job. Must not know:
//! what is on the page.

use super::audit::Audit;
use super::drawing::Drawing;
use super::events::{Observer, Relay};
use super::originals;
use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::findings::codes::code_pictures;
use crate::findings::{self, About, Findings, Side, Thumbnails};
use crate::util::{settings, text};

impl Audit {
    /// What [`Audit::run`] found as one HTML page, which needs nothing beside it. Its pictures are
    /// those of the source, else drawn by the model from the tokens; without either there are none.
    ///
    /// # Errors
    /// Those of [`Audit::run`]; a source that can't be listed.
    pub fn page(
        &self,
        findings: &Findings,
        tokenizer: Option<&mut Tokenizer>,
        observer: &mut dyn Observer,
    ) -> Result<String> {
        Ok(settings::plain(&self.marked_page(findings, tokenizer, observer)?))
    }

    /// The same with marks around the names of settings.
    pub(crate) fn marked_page(
        &self,
        findings: &Findings,
        tokenizer: Option<&mut Tokenizer>,
        observer: &mut dyn Observer,
    ) -> Result<String> {
        let wanted = findings::wanted(findings);
        let (mut pictures, mut drawn_codes) = (Thumbnails::default(), None);
        if let Some(source) = &self.source {
            originals::take(source, &wanted.here, &mut pictures, observer)?;
        }
        if let Some(tokenizer) = tokenizer.filter(|tokenizer| tokenizer.has_decoder()) {
            let (mut draw, mut relay) = (Drawing { tokenizer }, Relay(observer));
            let sides = [
                (Some(&self.settings.input), Side::Here, &wanted.here),
                (self.settings.against.as_ref(), Side::There, &wanted.there),
            ];
            for (input, side, keys) in sides {
                let Some(input) = input else { continue };
                let drawn = &mut pictures;
                findings::draw_thumbnails(input, side, keys, &mut draw, drawn, &mut relay)?;
            }
            if findings.code_pictures.is_none() {
                let (input, levels) = (&self.settings.input, &findings.report.levels);
                let (wanted, draw) = (findings::CODES_MAX, &mut draw);
                drawn_codes = Some(code_pictures(input, levels, wanted, draw, &mut relay)?);
            }
        }
        let about = About {
            name: text::path(&self.settings.input),
            against: self.settings.against.as_ref().map(text::path),
            keep: &self.settings.keep,
            codes: findings.code_pictures.as_ref().or(drawn_codes.as_ref()),
        };
        Ok(findings::render(findings, &pictures, &about))
    }
}
