//! Owns reading a column that stands beside the images, row by row through the row groups; damage in
//! it costs the values of its row group's rest, and nothing else. Must not know: what it is for.

use serde_json::Value;

use super::json::{NoValue, value};
use super::leaf::{Cells, LeafRows, TOO_FEW};
use super::table::Table;
use super::tree::Column;
use crate::util::text;

/// Rows that are decoded at once: each may hold on to a page.
const BATCH: usize = 32;

/// A column beside the images.
pub(super) struct SideColumn {
    column: Column,
    /// One to a leaf; none where it is damaged, or before the first row group.
    leaves: Vec<LeafRows>,
    too_long: u64,
    damaged: u64,
    /// The first damage: its row, and the reason.
    damage: Option<(u64, String)>,
}

impl SideColumn {
    pub(super) fn new(column: &Column) -> SideColumn {
        let column = column.clone();
        SideColumn { column, leaves: Vec::new(), too_long: 0, damaged: 0, damage: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.column.name
    }

    /// Goes to a row group's first row.
    pub(super) fn enter(&mut self, table: &Table, group: usize) {
        let open = |leaf| LeafRows::open(table, group, leaf, BATCH);
        match self.column.leaves.clone().map(open).collect() {
            Ok(leaves) => self.leaves = leaves,
            Err(reason) => self.give_up(table.rows_of(group).0, reason),
        }
    }

    /// The value in the next row, whose number is `row`; null where there is none to be had.
    pub(super) fn next(&mut self, row: u64) -> Value {
        if self.leaves.is_empty() {
            self.damaged += 1;
            return Value::Null;
        }
        for leaf in &mut self.leaves {
            let reason = match leaf.advance() {
                Ok(true) => continue,
                Ok(false) => TOO_FEW.into(),
                Err(reason) => reason,
            };
            self.damaged += 1;
            self.give_up(row, reason);
            return Value::Null;
        }
        let cells: Vec<Cells<'_>> = self.leaves.iter().map(LeafRows::cells).collect();
        match value(&self.column, &cells) {
            Ok(value) => value,
            Err(NoValue::TooLong) => {
                self.too_long += 1;
                Value::Null
            }
            Err(NoValue::Damaged) => {
                self.damaged += 1;
                self.damage.get_or_insert((row, "its values make no sense".into()));
                Value::Null
            }
        }
    }

    /// Leaves the rest of the row group without values.
    fn give_up(&mut self, row: u64, reason: String) {
        self.leaves.clear();
        self.damage.get_or_insert((row, reason));
    }

    /// What a user should know.
    pub(super) fn odd(&self) -> Vec<String> {
        let name = text::quoted(&self.column.name);
        let long = (self.too_long > 0).then(|| {
            format!("column {name}: {} values of more than 1 MiB were left out", self.too_long)
        });
        let damaged = self.damage.as_ref().map(|(row, reason)| {
            let count = self.damaged;
            format!("column {name} is damaged from row {row} on ({reason}); {count} rows lack it")
        });
        long.into_iter().chain(damaged).collect()
    }
}
