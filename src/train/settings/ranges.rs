//! Owns the refusal of numbers out of their bounds.

use crate::error::{Error, Result};
use crate::util::numbers;

/// Errors unless each value of `table` lies within its bounds: (name, value, lowest, highest).
pub(super) fn within(table: &str, ranges: &[(&str, f64, f64, f64)]) -> Result<()> {
    for (name, value, low, high) in ranges {
        if !(low..=high).contains(&value) {
            return Err(Error::invalid(format!(
                "{table}.{name} is {}; it must be {}",
                numbers::number(*value),
                numbers::between(*low, *high)
            )));
        }
    }
    Ok(())
}
