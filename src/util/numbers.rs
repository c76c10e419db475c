//! Owns numbers as people read them: counts with their nouns, bytes, times, rates.

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: impl TryInto<u64>) -> String {
    let digits = n.try_into().unwrap_or(u64::MAX).to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    // Chunks of ASCII digits are valid text.
    let groups: Vec<_> = groups.map(|g| String::from_utf8_lossy(g).into_owned()).collect();
    groups.join(",")
}

/// `1 image`, `2,000 images`; `noun` is the singular, regular in its plural.
pub(crate) fn counted(n: impl TryInto<u64>, noun: &str) -> String {
    match n.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {noun}"),
        n => format!("{} {}", count(n), plural(noun)),
    }
}

/// The plural of a regular noun.
fn plural(noun: &str) -> String {
    let hissing = ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end));
    let stem = noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u']));
    match stem {
        Some(stem) => format!("{stem}ies"),
        None if hissing => format!("{noun}es"),
        None => format!("{noun}s"),
    }
}

/// `1536` as `1.5 KiB`, in the unit that leaves the fewest digits.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return counted(n, "byte");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    // From 1,023.5 on it would be rounded to 1,024.
    while value >= 1023.5 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value < 9.95 {
        true => format!("{value:.1} {}", units[unit]),
        false => format!("{} {}", count(value.round() as u64), units[unit]),
    }
}

/// `90` as `1 min 30 s`; never `0 s`, which nothing takes.
pub(crate) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "an unknown time".into();
    }
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{} s", trimmed(format!("{:.1}", seconds.max(0.1)))),
        0..=89 => format!("{whole} s"),
        90..=5399 => format!("{} min {:02} s", whole / 60, whole % 60),
        5400..=172_799 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} days {:02} h", count(whole / 86_400), whole % 86_400 / 3600),
    }
}

/// [`seconds`] of what may be short: `45 ms`.
pub(crate) fn short_time(time: f64) -> String {
    match time {
        _ if !(0.0..0.0995).contains(&time) => seconds(time),
        _ if time < 0.001 => "less than 1 ms".into(),
        _ => format!("{:.0} ms", 1000.0 * time),
    }
}

/// Items a second as `2,182/s`, `3.5/s`, `12/min` or `1.5/h`; `noun` (with a blank before it) comes
/// before the slash.
pub(crate) fn rate(per_second: f64, noun: &str) -> String {
    let (value, unit) = match per_second {
        r if !r.is_finite() || r <= 0.0 => return format!("0{noun}/s"),
        r if r >= 0.95 => (r, "s"),
        r if r * 60.0 >= 0.95 => (r * 60.0, "min"),
        r => (r * 3600.0, "h"),
    };
    let value = match value < 9.95 {
        true => trimmed(format!("{value:.1}")),
        false => count(value.round() as u64),
    };
    format!("{value}{noun}/{unit}")
}

/// A number of any size in few characters: `0.25`, `1,000,000`, `1e300` and not 300 zeros.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    match value {
        v if v.is_nan() => "not a number".into(),
        v if v.is_infinite() => if v > 0.0 { "infinite" } else { "minus infinite" }.into(),
        0.0 => "0".into(),
        v if !(1e-6..1e15).contains(&size) => format!("{v:e}"),
        v if size >= 10_000.0 && v.fract() == 0.0 => {
            format!("{}{}", if v < 0.0 { "-" } else { "" }, count(size as u64))
        }
        v => v.to_string(),
    }
}

/// What a setting may be: `between 0.1 and 10`, `0 or more`, `above 0 and at most 1,000`.
pub(crate) fn between(low: f64, high: f64) -> String {
    let above = low == f64::MIN_POSITIVE;
    match (above, high == f64::MAX) {
        (true, true) => "above 0".into(),
        (true, false) => format!("above 0 and at most {}", number(high)),
        (false, true) => format!("{} or more", number(low)),
        (false, false) => format!("between {} and {}", number(low), number(high)),
    }
}

/// Without a `.0` at its end.
fn trimmed(text: String) -> String {
    text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_nouns_and_thousands_their_commas() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 1, 2, 4096].map(|n: u64| counted(n, "image")),
            ["0 images", "1 image", "2 images", "4,096 images"]
        );
        let nouns = ["batch", "class", "box", "entry", "key", "partition"];
        let plurals = ["batches", "classes", "boxes", "entries", "keys", "partitions"];
        assert_eq!(nouns.map(plural), plurals);
    }

    #[test]
    fn bytes_take_the_unit_that_suits_them() {
        let given = [0, 1, 1023, 1024, 1536, 10 << 10, (1 << 20) - 1, 3 << 19, 40 << 30, u64::MAX];
        let said = given.map(bytes);
        let expected = [
            "0 bytes",
            "1 byte",
            "1,023 bytes",
            "1.0 KiB",
            "1.5 KiB",
            "10 KiB",
            "1.0 MiB",
            "1.5 MiB",
            "40 GiB",
            "16 EiB",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn times_are_never_nothing_and_have_two_units_at_most() {
        let given = [0.0, 0.2, 1.0, 9.94, 9.96, 89.4, 90.0, 7325.0, 200_000.0, f64::INFINITY];
        let expected = [
            "0.1 s",
            "0.2 s",
            "1 s",
            "9.9 s",
            "10 s",
            "89 s",
            "1 min 30 s",
            "2 h 02 min",
            "2 days 07 h",
            "an unknown time",
        ];
        assert_eq!(given.map(seconds), expected);
    }

    #[test]
    fn rates_are_plain() {
        let given = [2182.4, 21.76, 3.5, 1.0, 0.5, 0.001, 0.0, f64::NAN];
        let expected = ["2,182/s", "22/s", "3.5/s", "1/s", "30/min", "3.6/h", "0/s", "0/s"];
        assert_eq!(given.map(|r| rate(r, "")), expected);
        assert_eq!(rate(1000.0, " images"), "1,000 images/s");
    }

    #[test]
    fn numbers_of_any_size_are_short() {
        let given = [0.0, -0.0, 0.25, -3.0, 1e-5, 1e-30, 1e6, 1e300, f64::MAX, f64::NAN];
        let expected = [
            "0",
            "0",
            "0.25",
            "-3",
            "0.00001",
            "1e-30",
            "1,000,000",
            "1e300",
            "1.7976931348623157e308",
            "not a number",
        ];
        assert_eq!(given.map(number), expected);
        assert_eq!(between(0.0, 0.5), "between 0 and 0.5");
        assert_eq!(between(f64::MIN_POSITIVE, 1e3), "above 0 and at most 1000");
        assert_eq!(between(0.0, f64::MAX), "0 or more");
    }
}
