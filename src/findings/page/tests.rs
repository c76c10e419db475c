//! Tests of the page: made-up findings, many and none, names of attackers, links that lead somewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::audit::report::{AuditReport, FailureReport, LabelReport, LevelReport};
use crate::findings::codebook::{Codebook, Places};
use crate::findings::drift::Drift;
use crate::findings::picture::Picture;
use crate::findings::result::{
    Duplicates, FailuresFound, Kind, Leak, LowInformation, Member, Outlier, Remark, Unreadable,
};
use crate::findings::sizes::{Listed, OddImage, Sizes};
use crate::findings::unlisted::Unlisted;
use crate::util::settings::{self, THRESHOLD};

const HOSTILE: &str =
    "a\"><script>alert('1')</script><img src=http://x.example/y>\u{202e}\n\u{2}json\u{3}";

fn report() -> AuditReport {
    let level = LevelReport {
        column: "tokens",
        codes: 8,
        tokens: 12,
        used: 3,
        entropy_bits: 1.5,
        perplexity: 2.83,
        rank_frequency: vec![(1, 6), (2, 4), (3, 2)],
        by_uses: vec![5, 0, 1, 2],
        most_used: vec![(1, 6), (2, 4)],
        least_used: vec![(7, 2)],
    };
    AuditReport {
        bits: Vec::new(),
        files: 1,
        rows: 3,
        made_by: BTreeMap::from([("family".into(), HOSTILE.into())]),
        unusable: 0,
        problems: Vec::new(),
        notes: Vec::new(),
        levels: vec![level],
        quantization_error: None,
        labels: BTreeMap::from([(HOSTILE.into(), LabelReport { rows: 3, mean_error: None })]),
        further_labels: 0,
        failed: 0,
        failed_by_stage: BTreeMap::new(),
        failed_by_error: BTreeMap::new(),
        failures: Vec::new(),
        lost_failures: Vec::new(),
    }
}

fn nothing() -> Findings {
    Findings {
        schema: "audit.v1",
        images: 3,
        against: None,
        duplicates: Vec::new(),
        leaks: Vec::new(),
        low_information: Vec::new(),
        outliers: Vec::new(),
        threshold: None,
        expected_false_pairs: None,
        remarks: Vec::new(),
        codebook: Vec::new(),
        bits: Vec::new(),
        sizes: Sizes::default(),
        failures: failures(0, BTreeMap::new()),
        code_pictures: None,
        reconstructions: None,
        precision: None,
        report: report(),
        not_compared: Vec::new(),
        unlisted: Unlisted::default(),
    }
}

fn group(kind: Kind, name: &str, members: usize, label_conflict: bool) -> Duplicates {
    let key = |i: usize| format!("{name}/{i}.png");
    let member = |i: usize| Member {
        key: key(i),
        score: 0.95,
        relation: "mirrored",
        label: Some(if label_conflict { format!("{HOSTILE}{i}") } else { "one".into() }),
    };
    Duplicates { kind, members: (0..members).map(member).collect(), keep: key(0), label_conflict }
}

fn failures(count: u64, by_error: BTreeMap<String, u64>) -> FailuresFound {
    let (by_stage, unreadable) = (BTreeMap::new(), Unreadable::default());
    let list = Vec::new();
    FailuresFound { count, by_stage, by_error, list, unreadable, unreadable_against: None }
}

fn odd(count: usize, reason: &'static str, key: &dyn Fn(usize) -> String) -> Listed {
    let image = |i| OddImage { key: key(i), width: 900, height: 20, reason, score: i as f64 };
    Listed { count: count as u64, list: (0..count).map(image).collect() }
}

fn codebook() -> Codebook {
    let drift = |of: &str| Drift {
        of: vec![of.into()],
        rows: 3,
        divergence: 0.25,
        z: Some(7.0),
        by_label: false,
    };
    Codebook {
        level: report().levels.remove(0),
        dead: 5,
        zipf_exponent: Some(1.1),
        shared_counters: false,
        places: Places {
            height: 2,
            width: 2,
            entropy_bits: vec![1.0, 2.0, 1.5, 1.25],
            divergence: vec![0.5; 4],
        },
        neighbour_bits: Some(0.75),
        labels: vec![drift(HOSTILE)],
        shards: vec![drift("part-00000"), drift(HOSTILE)],
        against: None,
    }
}

/// Of every kind `count`.
fn findings(count: usize, name: &str) -> Findings {
    let key = |i: usize| format!("{name}{i}");
    let kinds = [Kind::ExactFile, Kind::ExactPixels, Kind::Near];
    let groups = |(kind, conflict): (Kind, bool)| {
        (0..count)
            .map(move |i| group(kind, &format!("{name}{kind:?}{conflict}{i}"), 2 + i % 9, conflict))
    };
    let remark = |finding| Remark {
        about: "near-duplicates",
        finding,
        text: format!("{HOSTILE} {THRESHOLD} was said"),
    };
    let leak = |i: usize| Leak {
        key: key(i),
        other_key: format!("other {}", key(i)),
        score: 0.9,
        kind: kinds[i % 3],
        label_conflict: i.is_multiple_of(2),
    };
    let low = |i: usize| LowInformation {
        key: key(i),
        reason: ["dark", "constant"][i % 2],
        score: 1.0 - i as f64 / count as f64,
    };
    let agreed = kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
    failed(Findings {
        against: Some(9),
        duplicates: agreed.flat_map(groups).collect(),
        leaks: (0..count).map(leak).collect(),
        low_information: (0..count).map(low).collect(),
        outliers: (0..count).map(|i| Outlier { key: key(i), score: 9.0 }).collect(),
        threshold: Some(0.86),
        expected_false_pairs: Some(1.2),
        remarks: vec![remark(true), remark(false)],
        sizes: Sizes {
            known: 9,
            odd: odd(count, "wide", &key),
            upscaled: odd(count, "upscaled", &key),
            modes: BTreeMap::from([("L".into(), 1)]),
            few_modes: odd(count, "L", &key),
        },
        codebook: vec![codebook()],
        ..nothing()
    })
}

/// The same with a failure and what can't be used.
fn failed(mut found: Findings) -> Findings {
    let (key, stage, error) = (HOSTILE.into(), HOSTILE.into(), HOSTILE.into());
    let by_error = BTreeMap::from([(HOSTILE.to_string(), 1)]);
    (found.report.failed, found.report.failed_by_error) = (1, by_error.clone());
    found.report.failures = vec![FailureReport { key, stage, error }];
    found.report.problems = vec![HOSTILE.into()];
    found.report.notes = vec![HOSTILE.into()];
    Findings { failures: failures(1, by_error), ..found }
}

fn about(keep: &[String]) -> About<'_> {
    About { name: format!("tokens {HOSTILE}"), against: Some(format!("test {HOSTILE}")), keep }
}

/// A page, and how many pictures it asked for.
fn drawn(findings: &Findings) -> (String, usize) {
    let wanted = wanted(findings);
    let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    let rgb: Vec<u8> = (0..144 * 144 * 3).map(noise).collect();
    let small = Small::of(Picture { width: 144, height: 144, rgb }, true).unwrap();
    let mut thumbnails = Thumbnails::default();
    for (side, keys) in [(Side::Here, &wanted.here), (Side::There, &wanted.there)] {
        keys.iter().for_each(|key| thumbnails.insert(side, key, small.clone()));
    }
    let pictures = wanted.here.len() + wanted.there.len();
    (render(findings, &thumbnails, &about(&[])), pictures)
}

/// All values of an attribute without quotes.
fn values<'a>(page: &'a str, attribute: &'a str) -> BTreeSet<&'a str> {
    let values = page.split(attribute).skip(1);
    values.map(|rest| rest.split([' ', '>', '"']).next().unwrap()).collect()
}

fn check(page: &str) {
    for link in values(page, " href=#") {
        assert!(values(page, " id=").contains(link), "nothing is called {link}");
    }
    let twice = page.matches(" id=").count() - values(page, " id=").len();
    assert_eq!(twice, 0, "an id stands twice");
    for tag in ["section", "div", "table", "figure", "details", "ul", "li", "span", "svg", "p"] {
        let open =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "<{tag}>");
    }
    assert_eq!(page.matches("<img").count(), page.matches(" alt=\"").count());
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
}

#[test]
fn a_clean_set_is_said_to_be_clean() {
    let page = render(&nothing(), &Thumbnails::default(), &about(&[]));
    check(&page);
    assert!(
        page.contains("Nothing that needs doing.") && page.contains("leaks: no other set given")
    );
    assert!(page.contains("5 codes are never used") && page.contains("There are no pictures"));
    for id in ["near", "files", "leaks", "low", "outliers", "failures", "unusable"] {
        assert!(!values(&page, " id=").contains(id), "{id}");
    }
}

#[test]
fn every_kind_has_its_part_with_pictures_or_without() {
    let found = findings(3, "k");
    let (page, _) = drawn(&found);
    check(&page);
    let bare = render(&found, &Thumbnails::default(), &about(&[]));
    check(&bare);
    assert!(!bare.contains("<img") && !bare.contains("no picture of it"));
    for page in [&page, &bare] {
        let ids = values(page, " id=");
        for id in [
            "conflicts",
            "near",
            "pixels",
            "files",
            "leaks",
            "low",
            "outliers",
            "sizes",
            "codebook",
            "patterns",
            "failures",
        ] {
            assert!(ids.contains(id), "{id}");
        }
        // Of 9 groups of 2, 3 and 4 images that agree all but one can go, of 9 that don't nobody knows.
        let gone = found.remove_list(&[]).0.lines().count();
        assert!(gone == 18 && page.contains("names 18 that can go"), "{gone}");
        assert!(page.contains("about 1 pair is expected to be so alike by chance"));
        assert!(page.contains("9 groups of equal or nearly equal images hold several labels."));
        assert!(page.contains("tells 0.75 of the 1.5 bits") && page.contains("900 × 20"));
        assert!(page.contains("kNearfalse2/<wbr>1.png") && page.contains("other k2"));
    }
    let kept = ["kNear".to_string(), "kExact".to_string()];
    let page = render(&found, &Thumbnails::default(), &about(&kept));
    assert!(page.contains("names 0 that can go"));
}

#[test]
fn text_of_an_attacker_stays_text() {
    let (page, _) = drawn(&findings(3, HOSTILE));
    check(&page);
    assert!(
        !page.contains("<script") && !page.contains("<img src=http") && !page.contains('\u{202e}')
    );
    assert!(page.contains("a&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)"));
    assert_eq!(
        page.matches("src=").count(),
        page.matches("src=\"data:image/jpeg;base64,").count() + page.matches("src=http").count()
    );
    let named = settings::named(&page, |name| format!("[{name}]"));
    assert!(named.contains("[threshold] was said") && named.contains("<code>[remove_list]</code>"));
    assert!(!named.contains(settings::is_mark), "every mark is that of a setting");
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn ten_thousand_findings_stay_light_and_the_same() {
    let found = findings(1111, "deep/folder of some length/and a name of some length ");
    let (page, pictures) = drawn(&found);
    check(&page);
    // Of pictures that compress worst.
    assert!(page.len() < 10_000_000 && pictures < 900, "{} bytes, {pictures}", page.len());
    let bare = render(&found, &Thumbnails::default(), &about(&[]));
    assert!(bare.len() < 6_000_000, "{} bytes", bare.len());
    assert_eq!(page, drawn(&found).0);
    // The surest of a reason first.
    let strip = &page[page.find(" id=low").unwrap()..];
    let key = |i: usize| {
        strip.find(&format!("alt=\"deep/folder of some length/and a name of some length {i}\""))
    };
    assert!(key(1) < key(3) && key(0) < key(2) && key(0).is_some());
    assert!(page.contains("more, as a table"));
}

#[test]
fn a_report_alone_is_a_page() {
    let page = render_report(&report());
    check(&page);
    assert!(!page.contains("<script"));
    for words in ["vqtok report", "37.50 %", "<code>tokens</code>", "Uses by rank"] {
        assert!(page.contains(words), "{words}");
    }
}
