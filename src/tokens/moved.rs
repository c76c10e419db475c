//! Owns where the planned files lie today, if elsewhere than when they were planned. Must not know:
//! why they moved.
//!
//! Plans and rows keep the place of planning: a shard is the same bytes wherever its images are
//! read from. What is kept here is a rule for each stretch of the plan (in practice one for each
//! INPUT): so uris began then, so they begin now.

use super::rows::PlanRow;

/// Rules for stretches of the plan, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    stretches: Vec<Stretch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stretch {
    /// Its first image.
    first: i64,
    was: String,
    now: String,
}

impl Stretch {
    fn place(&self, uri: &str) -> Option<String> {
        Some(format!("{}{}", self.now, uri.strip_prefix(&self.was)?))
    }
}

impl Moved {
    /// A rule for all images whose planned uris begin with `was`.
    pub fn everywhere(was: String, now: String) -> Moved {
        Moved { stretches: vec![Stretch { first: 0, was, now }] }
    }

    /// Takes note of an image as it was planned and is now; called for all in order.
    pub(super) fn note(&mut self, was: &PlanRow, now: &PlanRow) {
        let known = match self.stretches.last() {
            Some(stretch) => stretch.place(&was.uri).as_deref() == Some(&*now.uri),
            None => was.uri == now.uri,
        };
        if known {
            return;
        }
        // The key of a part says nothing of where its file lies.
        let parts = if was.member.is_some() { 1 } else { was.key.matches('/').count() + 1 };
        let (mut then, mut today) = (start(&was.uri, parts), start(&now.uri, parts));
        if was.uri[then.len()..] != now.uri[today.len()..] {
            (then, today) = (&was.uri, &now.uri);
        }
        let (then, today) = (then.to_string(), today.to_string());
        self.stretches.push(Stretch { first: was.position(), was: then, now: today });
    }

    /// Whether every file lies where it was planned.
    pub fn is_empty(&self) -> bool {
        self.stretches.iter().all(|stretch| stretch.was == stretch.now)
    }

    /// How the uris of the first images that moved began, and how they begin now.
    pub fn first(&self) -> Option<(&str, &str)> {
        let mut moved = self.stretches.iter().filter(|stretch| stretch.was != stretch.now);
        moved.next().map(|stretch| (&*stretch.was, &*stretch.now))
    }

    /// Where an image is read from.
    pub fn place(&self, row: &PlanRow) -> String {
        self.place_of(row.position(), &row.uri)
    }

    /// [`Moved::place`] of the image at that place in the order of the inputs, with that planned uri.
    pub fn place_of(&self, position: i64, uri: &str) -> String {
        let behind = self.stretches.partition_point(|stretch| stretch.first <= position);
        let stretch = behind.checked_sub(1).and_then(|index| self.stretches.get(index));
        stretch.and_then(|stretch| stretch.place(uri)).unwrap_or_else(|| uri.to_string())
    }
}

/// A uri without its last `parts` parts, with the `/` before them.
fn start(uri: &str, parts: usize) -> &str {
    let cut = uri.rmatch_indices('/').nth(parts - 1).map_or(0, |(at, _)| at + 1);
    &uri[..cut]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ordinal: i64, key: &str, uri: &str) -> PlanRow {
        PlanRow { ordinal, key: key.into(), uri: uri.into(), bytes: 1, ..PlanRow::default() }
    }

    #[test]
    fn every_image_is_found_where_it_is_now() {
        let planned = [
            row(0, "a/1.png", "file:///old/a/1.png"),
            row(1, "a/b/2.png", "file:///old/a/b/2.png"),
            row(2, "c.png", "file:///stays/c.png"),
            row(3, "d.png", "file:///x/d.png"),
            row(4, "d%FF.png", "file:///x/d%25FF.png"),
            row(5, "e.png", "file:///x/e.png"),
        ];
        let places = [
            "file:///new/place/a/1.png",
            "file:///new/place/a/b/2.png",
            "file:///stays/c.png",
            "file:///y/d.png",
            // Another name of the same key.
            "file:///y/d%FF.png",
            "file:///y/e.png",
        ];
        let mut moved = Moved::default();
        for (was, uri) in planned.iter().zip(places) {
            moved.note(was, &PlanRow { uri: uri.into(), ..was.clone() });
        }
        assert!(!moved.is_empty());
        assert_eq!(moved.first(), Some(("file:///old/", "file:///new/place/")));
        assert_eq!(moved.stretches.len(), 5);
        for (was, uri) in planned.iter().zip(places) {
            assert_eq!(moved.place(was), uri);
        }
    }

    #[test]
    fn what_stays_needs_no_rule() {
        let mut moved = Moved::default();
        for ordinal in 0..100 {
            let same = row(ordinal, "k.png", &format!("file:///d/{ordinal}/k.png"));
            moved.note(&same, &same);
        }
        assert_eq!((moved.is_empty(), moved.first(), moved.stretches.len()), (true, None, 0));
        let one = row(3, "k", "file:///d/k");
        assert_eq!(moved.place(&one), one.uri);
        let all = Moved::everywhere("file:///d/".into(), "file:///e/".into());
        assert_eq!(all.place(&one), "file:///e/k");
        assert_eq!(all.place(&row(4, "k", "file:///f/k")), "file:///f/k");
    }
}
