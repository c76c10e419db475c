//! Owns which split an image falls into: by its key alone, so that all its views fall together, and
//! a later export of more images leaves every image where it was.

use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Splits by name, with their shares of the images.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// By name, with the share of it and of those before.
    splits: Vec<(String, f64)>,
    /// As they were written.
    text: String,
}

impl Splits {
    /// Their names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.splits.iter().map(|(name, _)| name.as_str())
    }

    /// As they were written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The number of the split that an image falls into.
    pub(super) fn of(&self, key: &str) -> usize {
        let place = hash(b"vqtok split", key, None) as f64 / 2f64.powi(64);
        let last = self.splits.len() - 1;
        self.splits.iter().position(|(_, until)| place < *until).unwrap_or(last)
    }
}

impl FromStr for Splits {
    type Err = String;

    fn from_str(text: &str) -> Result<Splits, String> {
        let mut splits: Vec<(String, f64)> = Vec::new();
        let mut until = 0.0;
        for part in text.split(',') {
            let usage = || format!("'{part}' isn't NAME=SHARE, as in train=0.98,val=0.02");
            let (name, share) = part.split_once('=').ok_or_else(usage)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            if name.is_empty() || !name.chars().all(plain) || name.starts_with('-') {
                return Err(format!("'{name}' is no name of letters, digits, _ and -"));
            }
            if splits.iter().any(|(other, _)| other == name) {
                return Err(format!("'{name}' is given twice"));
            }
            let share: f64 = share.trim().parse().map_err(|_| usage())?;
            if !(share > 0.0 && share <= 1.0) {
                return Err(format!("the share of '{name}' must lie above 0 and not above 1"));
            }
            until += share;
            splits.push((name.to_string(), until));
        }
        if (until - 1.0).abs() > 1e-6 {
            return Err(format!("the shares add up to {until}, not to 1"));
        }
        Ok(Splits { splits, text: text.to_string() })
    }
}

/// A number that a key, and a view of it, has for a purpose: the same on every machine.
pub(super) fn hash(purpose: &[u8], key: &str, view: Option<i64>) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update((purpose.len() as u64).to_le_bytes());
    hasher.update(purpose);
    hasher.update(key.as_bytes());
    if let Some(view) = view {
        hasher.update([0]);
        hasher.update(view.to_le_bytes());
    }
    let digest: [u8; 32] = hasher.finalize().into();
    digest[..8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_an_image_stays_where_it_is() {
        let splits: Splits = "train=0.9,val=0.1".parse().unwrap();
        let of = |i: usize| splits.of(&format!("{i}.png"));
        let val = (0..10_000).filter(|i| of(*i) == 1).count();
        assert!((900..1100).contains(&val), "{val}");
        let more: Splits = "train=0.9,val=0.05,test=0.05".parse().unwrap();
        assert!((0..1000).all(|i| (of(i) == 0) == (more.of(&format!("{i}.png")) == 0)));
    }

    #[test]
    fn what_is_no_split_is_refused_with_the_reason() {
        for (text, reason) in [
            ("train", "isn't NAME=SHARE"),
            ("a=0.5,a=0.5", "given twice"),
            ("a=0.5,b=0.4", "add up to 0.9"),
            ("../a=1", "is no name"),
            ("a=0,b=1", "above 0"),
            ("a=x", "isn't NAME=SHARE"),
        ] {
            let error = text.parse::<Splits>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
