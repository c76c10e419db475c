//! Owns what an export reports while it runs, and who can stop it.

use crate::audit::BadRows;
use crate::audit::sources::Sources;

/// What happens while an export runs.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The files that are read, with what is missing or foreign among them.
    Sources(&'a Sources),
    /// Work on so many rows begins.
    Begin { stage: &'static str, rows: u64 },
    /// A row is done.
    Row,
    /// Rows that can't be used, and are left out.
    BadRows(&'a BadRows),
}

/// Who is told, and who can stop an export.
pub(crate) trait Observer {
    fn event(&mut self, event: &Event<'_>);
    fn interrupted(&self) -> bool;
}
