//! Owns how decoding is shown.

use serde_json::json;

use super::progress_printer::ProgressPrinter;
use crate::audit::BadRows;
use crate::audit::sources::Sources;
use crate::job::{OtherGrid, OtherModel};
use crate::util::text;

impl ProgressPrinter<'_> {
    /// What the folder lacks, or holds beside its own.
    pub(super) fn sources(&self, sources: &Sources) {
        if let Some((there, partitions)) = sources.unfinished {
            let text = format!(
                "warning: an unfinished output, {there} of {partitions} shards are there: only \
                 those are read"
            );
            self.say("unfinished", &text, json!({"there": there, "partitions": partitions}));
        }
        const TOLD_MAX: usize = 20;
        for stray in sources.strays.iter().take(TOLD_MAX) {
            let text = format!(
                "stray: {} isn't the output's own and is passed over; `vqtok verify` lists strays",
                text::printable(stray)
            );
            self.say("stray", &text, json!({"path": stray}));
        }
        for note in &sources.notes {
            self.say("warning", &format!("warning: {note}"), json!({"message": note}));
        }
    }

    pub(super) fn other_model(&self, other: &OtherModel) {
        let fields = json!({
            "file": text::lossy(&other.file), "files": other.files, "model": text::lossy(&other.model),
            "made_by": other.made_by, "decoder": other.decoder,
        });
        self.say("other-model", &format!("warning: {other}; going on (--force)"), fields);
    }

    pub(super) fn other_grid(&self, other: &OtherGrid<'_>) {
        let &OtherGrid { tokens, file, row, grid, model_grid, .. } = other;
        let text = format!(
            "note: rows of {tokens} tokens (the first: {}, row {row}) are read as {} x {}; the \
             model was made for {} x {}",
            text::path(file),
            grid.0,
            grid.1,
            model_grid.0,
            model_grid.1
        );
        let fields = json!({"tokens": tokens, "file": file, "row": row, "grid": grid,
                            "model_grid": model_grid});
        self.say("other-grid", &text, fields);
    }

    pub(super) fn bad_rows(&mut self, bad: &BadRows) {
        self.step(true);
        let fields = json!({"file": &*bad.file, "row": bad.rows.start, "rows": bad.count(),
                            "key": bad.key, "error": bad.problem});
        self.failure(&format!("failed: {}", bad.in_words()), fields, "");
    }
}
