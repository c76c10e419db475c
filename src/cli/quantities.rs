//! Owns times and sizes as they are written on the command line. Must not know: what they bound.

use std::time::Duration;

/// A number of a unit: `1.5h`, `30 m`.
fn of_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let (_, factor) = units.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name))?;
    let value = number.parse::<f64>().ok()? * factor;
    (value.is_finite() && value > 0.0).then_some(value)
}

/// A time: `90s`, `30m`, `1.5h`, `2d`.
pub(super) fn time_of(text: &str) -> Result<Duration, String> {
    let units = [("s", 1.0), ("m", 60.0), ("min", 60.0), ("h", 3_600.0), ("d", 86_400.0)];
    let seconds = of_unit(text, &units).filter(|seconds| *seconds <= 1e9);
    seconds.map(Duration::from_secs_f64).ok_or("a time is a number and s, m, h or d, as 30m".into())
}

/// A size: `500MB`, `20G`, `1.5GiB`.
pub(super) fn bytes_of(text: &str) -> Result<u64, String> {
    let k = 1024.0_f64;
    let units = [
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("K", k),
        ("M", k.powi(2)),
        ("G", k.powi(3)),
        ("T", k.powi(4)),
        ("KiB", k),
        ("MiB", k.powi(2)),
        ("GiB", k.powi(3)),
        ("TiB", k.powi(4)),
    ];
    let bytes = of_unit(text, &units).filter(|bytes| (1.0..=1e18).contains(bytes));
    bytes.map(|bytes| bytes as u64).ok_or("a size is a number and KB, MB, GB or TB, as 20GB".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_a_number_and_its_unit() {
        let seconds = |text| time_of(text).map(|time| time.as_secs_f64());
        let times = ["90s", "30m", "1.5h", "2 d", "10min"].map(|text| seconds(text).unwrap());
        assert_eq!(times, [90.0, 1_800.0, 5_400.0, 172_800.0, 600.0]);
        let sizes = ["500MB", "1.5GiB", "20g", "4 kb"].map(|text| bytes_of(text).unwrap());
        assert_eq!(sizes, [500_000_000, 1_610_612_736, 21_474_836_480, 4_000]);
        for wrong in ["", "30", "m", "-3m", "0s", "3 weeks", "1e3s", "1..2h", "9999999d", "½h"] {
            assert!(time_of(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "5", "GB", "-1GB", "0MB", "3 blocks", "9999999TB"] {
            assert!(bytes_of(wrong).is_err(), "{wrong}");
        }
    }
}
