//! Owns reading a column that stands beside the images, row by row through the row groups; damage in
//! it costs the values of its row group's rest, and nothing else. Must not know: what it is for.

use serde_json::Value;

use super::json::{NoValue, value};
use super::leaf::{Cells, LeafRows, TOO_FEW};
use super::table::Table;
use super::tree::Column;
use crate::util::{numbers, text};

/// Rows that are decoded at once: each may hold on to a page.
const BATCH: usize = 32;

/// A column beside the images.
pub(super) struct SideColumn {
    column: Column,
    group: usize,
    /// One to a leaf; none where it is damaged, or before the first row group.
    leaves: Vec<LeafRows>,
    /// Whether rows of the row group are decoded one by one.
    slow: bool,
    too_long: u64,
    damaged: u64,
    /// The first damage: its row, and the reason.
    damage: Option<(u64, String)>,
}

impl SideColumn {
    pub(super) fn new(column: &Column) -> SideColumn {
        let column = column.clone();
        let (group, leaves, slow) = (0, Vec::new(), false);
        SideColumn { column, group, leaves, slow, too_long: 0, damaged: 0, damage: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.column.name
    }

    /// Goes to a row group's first row.
    pub(super) fn enter(&mut self, table: &Table, group: usize) {
        (self.group, self.slow) = (group, false);
        self.leaves = self.open(table, BATCH).unwrap_or_default();
        if self.leaves.is_empty() {
            self.enter_slowly(table, table.rows_of(group).0);
        }
    }

    fn open(&self, table: &Table, batch: usize) -> Result<Vec<LeafRows>, String> {
        let open = |leaf| LeafRows::open(table, self.group, leaf, batch);
        self.column.leaves.clone().map(open).collect()
    }

    /// Goes to a row of the row group, from where rows are decoded one by one: what is damaged
    /// further on costs them nothing then.
    fn enter_slowly(&mut self, table: &Table, row: u64) {
        let before = usize::try_from(row - table.rows_of(self.group).0);
        let leaves = self.open(table, 1).and_then(|mut leaves| {
            let before = before.map_err(|error| error.to_string())?;
            leaves.iter_mut().try_for_each(|leaf| leaf.skip(before))?;
            Ok(leaves)
        });
        self.slow = true;
        match leaves {
            Ok(leaves) => self.leaves = leaves,
            Err(reason) => self.give_up(row, reason),
        }
    }

    /// The value in the next row, whose number is `row`; null where there is none to be had.
    pub(super) fn next(&mut self, table: &Table, row: u64) -> Value {
        let mut moved = self.advance();
        if moved.is_err() && !self.slow {
            self.enter_slowly(table, row);
            moved = self.advance();
        }
        if let Err(reason) = moved {
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

    fn advance(&mut self) -> Result<(), String> {
        if self.leaves.is_empty() {
            return Err(TOO_FEW.into());
        }
        self.leaves.iter_mut().try_for_each(|leaf| match leaf.advance()? {
            true => Ok(()),
            false => Err(TOO_FEW.into()),
        })
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
            let values = numbers::counted(self.too_long, "value");
            format!("column {name}: {values} of more than 1 MiB left out")
        });
        let damaged = self.damage.as_ref().map(|(row, reason)| {
            let rows = numbers::counted(self.damaged, "row");
            format!("column {name} is damaged from row {row} on ({reason}); left out in {rows}")
        });
        long.into_iter().chain(damaged).collect()
    }
}
