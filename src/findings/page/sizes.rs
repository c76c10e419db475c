//! Owns how images of odd sizes, shapes and colour modes are shown. Must not know: how they were found.

use std::fmt::Write;

use super::cards::{Shot, cell, figure, key, rest, tag};
use super::frame::open_section;
use super::shown::{Part, Shown};
use super::thumbnails::{Side, Thumbnails};
use crate::findings::result::Findings;
use crate::findings::sizes::OddImage;
use crate::util::html::{number, short, table, text};
use crate::util::numbers::count;

pub(super) fn draw(
    page: &mut String,
    findings: &Findings,
    shown: &Shown<'_>,
    thumbnails: Option<&Thumbnails>,
) {
    let sizes = &findings.sizes;
    if !sizes.any() {
        return;
    }
    open_section(page, "sizes", "Odd sizes and modes", None);
    let parts = [
        (
            "Odd size or shape",
            "Far larger, smaller, wider or taller than the usual image of this set.",
            &shown.odd,
            sizes.odd.count,
        ),
        (
            "Enlarged for the model",
            "Smaller than what the model sees: their tokens show blur that isn't in the image.",
            &shown.upscaled,
            sizes.upscaled.count,
        ),
        (
            "A colour mode that few have",
            "Often a grey or palette image among colour ones, or the work of another tool.",
            &shown.modes,
            sizes.few_modes.count,
        ),
    ];
    for (title, explained, part, number) in parts {
        if number > 0 {
            let _ = write!(page, "<h3>{title}<span class=n>{}</span></h3>", count(number));
            let _ = write!(page, "<p class=soft>{explained}</p>");
            draw_part(page, part, thumbnails);
        }
    }
    page.push_str("<details><summary>Images by colour mode</summary>");
    let rows = sizes.modes.iter().map(|(mode, &images)| vec![text(mode), number(images)]);
    table(page, &["mode", "images"], rows);
    page.push_str("</details></section>");
}

fn draw_part(page: &mut String, part: &Part<'_, OddImage>, thumbnails: Option<&Thumbnails>) {
    let what = |image: &OddImage| match image.reason {
        "upscaled" => format!("×{}", short(image.score)),
        reason => reason.to_string(),
    };
    let size = |image: &OddImage| format!("{} × {}", image.width, image.height);
    match thumbnails {
        Some(thumbnails) => {
            page.push_str("<div class=strip>");
            for image in &part.pictured {
                let (above, beneath) = (tag(&what(image), ""), size(image));
                let shot = Shot { side: Side::Here, key: &image.key, kept: false, above, beneath };
                figure(page, thumbnails, &shot);
            }
            page.push_str("</div>");
        }
        None => {
            page.push_str("<div class=same><ul>");
            for image in &part.pictured {
                let (what, size) = (tag(&what(image), ""), size(image));
                let _ = write!(page, "<li>{what}{} {size}</li>", key(&image.key));
            }
            page.push_str("</ul></div>");
        }
    }
    let heads = ["key", "what", "width", "height"];
    rest(page, &part.rest, "image", &heads, |image: &OddImage| {
        let sides = [image.width, image.height].map(|side| number(u64::from(side)));
        let [width, height] = sides;
        vec![format!("<td>{}</td>", cell(&image.key)), text(&what(image)), width, height]
    });
}
