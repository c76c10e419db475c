//! Owns how findings of one image, or of one here and one there, are shown. Must not know: how they
//! were found.

use std::fmt::Write;

use super::cards::{Shot, cell, figure, key, rest, tag};
use super::frame::{About, open_section};
use super::shown::Shown;
use super::thumbnails::{Side, Thumbnails};
use super::words;
use crate::findings::result::{Kind, Leak, LowInformation, Outlier};
use crate::util::html::{escape, short, text};
use crate::util::numbers::{count, counted};

pub(super) fn draw(
    page: &mut String,
    shown: &Shown<'_>,
    thumbnails: Option<&Thumbnails>,
    about: &About<'_>,
) {
    draw_leaks(page, shown, thumbnails, about);
    draw_low(page, shown, thumbnails);
    draw_outliers(page, shown, thumbnails);
}

fn draw_leaks(
    page: &mut String,
    shown: &Shown<'_>,
    thumbnails: Option<&Thumbnails>,
    about: &About<'_>,
) {
    if shown.leaks.len() == 0 {
        return;
    }
    let other = about.against.as_deref().unwrap_or("the other output");
    open_section(page, "leaks", "In both sets", Some(counted(shown.leaks.len(), "pair")));
    let _ = write!(
        page,
        "<p class=soft>On the left an image of {}, on the right the one of {} that it is. Whoever \
         trains on one set and tests on the other measures memory here.</p><div class=cards>",
        escape(&about.name),
        escape(other)
    );
    for leak in &shown.leaks.pictured {
        draw_leak(page, leak, thumbnails);
    }
    page.push_str("</div>");
    let heads = ["here", "there", "similarity", "what"];
    rest(page, &shown.leaks.rest, "pair", &heads, |leak| {
        let what = words::kind(leak.kind);
        let what = if leak.label_conflict { format!("{what}, other label") } else { what.into() };
        let score = format!("<td class=n>{}</td>", words::similarity(leak.score));
        vec![td(&leak.key), td(&leak.other_key), score, text(&what)]
    });
    page.push_str("</section>");
}

fn draw_leak(page: &mut String, leak: &Leak, thumbnails: Option<&Thumbnails>) {
    page.push_str("<div class=card2>");
    let mut what = match leak.kind {
        Kind::Near => format!("similarity {}", words::similarity(leak.score)),
        kind => words::kind(kind).to_string(),
    };
    what = words::capitalised(&what);
    let _ = write!(page, "<p class=top>{what}");
    if leak.label_conflict {
        let _ = write!(page, " {}", tag("other label", "bad"));
    }
    page.push_str("</p>");
    let sides = [(Side::Here, &leak.key, "here"), (Side::There, &leak.other_key, "there")];
    match thumbnails {
        Some(thumbnails) => {
            page.push_str("<div class=strip>");
            for (side, key, name) in sides {
                let (above, beneath) = (tag(name, ""), String::new());
                figure(page, thumbnails, &Shot { side, key, kept: false, above, beneath });
            }
            page.push_str("</div>");
        }
        None => {
            page.push_str("<div class=same><ul>");
            for (_, whole, name) in sides {
                let _ = write!(page, "<li>{}{}</li>", tag(name, ""), key(whole));
            }
            page.push_str("</ul></div>");
        }
    }
    page.push_str("</div>");
}

fn draw_low(page: &mut String, shown: &Shown<'_>, thumbnails: Option<&Thumbnails>) {
    let all: usize = shown.low.iter().map(|(_, part)| part.len()).sum();
    if all == 0 {
        return;
    }
    open_section(page, "low", "Hardly anything to see", Some(counted(all, "image")));
    page.push_str(
        "<p class=soft>Little can be learned from these. The surest stand first: look at the last \
         ones before you drop them all.</p>",
    );
    page.push_str("<div class=reasons>");
    for (reason, part) in &shown.low {
        let number = count(part.len());
        let title = escape(&words::capitalised(reason));
        let _ = write!(page, "<div><h3>{title}<span class=n>{number}</span></h3>");
        let explained = words::reason(reason);
        if !explained.is_empty() {
            let _ = write!(page, "<p class=soft>{explained}</p>");
        }
        let strip: Vec<_> = part.pictured.iter().map(|low| (&*low.key, String::new())).collect();
        draw_strip(page, &strip, thumbnails);
        rest(page, &part.rest, "image", &["key", "score"], |low: &LowInformation| {
            vec![td(&low.key), format!("<td class=n>{}</td>", words::similarity(low.score))]
        });
        page.push_str("</div>");
    }
    page.push_str("</div></section>");
}

fn draw_outliers(page: &mut String, shown: &Shown<'_>, thumbnails: Option<&Thumbnails>) {
    let part = &shown.outliers;
    if part.len() == 0 {
        return;
    }
    open_section(page, "outliers", "Least like the others", None);
    page.push_str(
        "<p class=soft>A ranking and no verdict: the oddest first, by how far their tokens lie from \
         those of the rest. Some set has to have a last image; whether these belong is for you to \
         see.</p>",
    );
    let ranked = part.pictured.iter().enumerate();
    let strip: Vec<_> =
        ranked.map(|(rank, outlier)| (&*outlier.key, tag(&format!("{}", rank + 1), ""))).collect();
    draw_strip(page, &strip, thumbnails);
    rest(page, &part.rest, "image", &["key", "score"], |outlier: &Outlier| {
        vec![td(&outlier.key), format!("<td class=n>{}</td>", short(outlier.score))]
    });
    page.push_str("</section>");
}

/// Pictures in a row, each with what stands above its key; keys alone where there are none.
fn draw_strip(page: &mut String, keys: &[(&str, String)], thumbnails: Option<&Thumbnails>) {
    match thumbnails {
        Some(thumbnails) => {
            page.push_str("<div class=strip>");
            for (key, above) in keys {
                let (above, beneath) = (above.clone(), String::new());
                let shot = Shot { side: Side::Here, key, kept: false, above, beneath };
                figure(page, thumbnails, &shot);
            }
            page.push_str("</div>");
        }
        None => {
            page.push_str("<div class=same><ul>");
            for (whole, above) in keys {
                let _ = write!(page, "<li>{above}{}</li>", key(whole));
            }
            page.push_str("</ul></div>");
        }
    }
}

fn td(key: &str) -> String {
    format!("<td>{}</td>", cell(key))
}
