//! Owns what a token row says of its image. Must not know: how it came about.

use super::Settings;
use crate::data::orientation::Orientation;
use crate::data::prepare::Prepared;
use crate::data::source::labels::LabelLevel;
use crate::engine::{CodeGrid, Encoded};
use crate::error::Result;
use crate::tokens::{Plan, PlanRow, TokenGrid, TokenRow};

/// What all rows of an output have in common.
pub(super) struct Rows {
    labels: LabelLevel,
    orientation: Orientation,
}

impl Rows {
    /// Of a plan, by its identity.
    pub(super) fn of(settings: &Settings, plan: &Plan) -> Result<Rows> {
        let labels = LabelLevel::recorded(plan.identity().label_level.as_deref())?;
        Ok(Rows { labels, orientation: settings.preparation.orientation })
    }

    /// The rows of an image's views, of which a batch's `first` is the first.
    pub(super) fn of_views(
        &self,
        plan: &PlanRow,
        views: &[Prepared],
        encoded: &Encoded,
        first: usize,
    ) -> Vec<TokenRow> {
        let row = |(number, view)| TokenRow {
            view: number as i32,
            ..self.row(plan.clone(), view, encoded, first + number)
        };
        views.iter().enumerate().map(row).collect()
    }

    /// The row of view `index` of a batch.
    fn row(&self, plan: PlanRow, prepared: &Prepared, encoded: &Encoded, index: usize) -> TokenRow {
        let grid = |level: &CodeGrid| TokenGrid {
            codes: level.codes_of(index, encoded.count).to_vec(),
            distances: level.distances_of(index).to_vec(),
            height: level.height as i32,
            width: level.width as i32,
        };
        TokenRow {
            label: self.labels.label_beside(plan.label.as_deref(), &plan.key).map(str::to_string),
            caption: plan.caption,
            meta_json: self.remarks(&plan.key, plan.meta_json, prepared),
            member: plan.member,
            key: plan.key,
            uri: plan.uri,
            ordinal: plan.ordinal,
            levels: encoded.levels.iter().map(grid).collect(),
            image_width: prepared.image_width as i32,
            image_height: prepared.image_height as i32,
            orientation: i32::from(prepared.orientation),
            color_mode: prepared.color_mode.to_string(),
            crop_x: prepared.crop.x,
            crop_y: prepared.crop.y,
            crop_w: prepared.crop.width,
            crop_h: prepared.crop.height,
            flip: prepared.flip,
            content_sha256: prepared.content_sha256,
            ..TokenRow::default()
        }
    }

    /// What no column says, as a JSON object, together with what its source says (`known`); None where
    /// there is nothing to say.
    fn remarks(&self, key: &str, known: Option<String>, prepared: &Prepared) -> Option<String> {
        let mut remarks = Vec::new();
        if self.orientation == Orientation::Ignore && prepared.orientation != 1 {
            remarks.push(("orientation", "ignored"));
        }
        if let Some(split) = self.labels.split(key) {
            remarks.push(("split", split));
        }
        if remarks.is_empty() {
            return known;
        }
        let parsed = known.and_then(|text| serde_json::from_str(&text).ok());
        let mut object: serde_json::Map<String, serde_json::Value> = parsed.unwrap_or_default();
        for (name, value) in remarks {
            // What the source says of itself stays.
            object.entry(name).or_insert_with(|| value.into());
        }
        Some(serde_json::Value::Object(object).to_string())
    }
}
