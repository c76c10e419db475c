//! Owns how what the model makes of an output is shown: reconstructions, other arithmetic, pictures
//! of codes. Must not know: how any of it was made.

use std::fmt::Write;

use super::cards::{cell, image, key, tag};
use super::frame::open_section;
use super::thumbnails::Small;
use crate::findings::codes::{CodePicture, ON_PAGE};
use crate::findings::picture::Picture;
use crate::findings::reconstructions::{
    Margins, NotCompared, PrecisionFindings, Reconstruction, Reconstructions,
};
use crate::findings::result::Findings;
use crate::util::html::{big, number, percent, short, table, text};
use crate::util::numbers::{count, counted};

/// A sample of the source beside what the model makes of it.
pub(super) fn draw_sample(page: &mut String, findings: &Findings) {
    if let Some(all) = &findings.reconstructions {
        draw_reconstructions(page, all);
    }
    if let Some(found) = &findings.precision {
        draw_precision(page, found);
    }
}

fn draw_reconstructions(page: &mut String, all: &Reconstructions) {
    let sample = counted(all.images, "image");
    open_section(page, "reconstructions", "What the tokens keep", Some(sample));
    page.push_str(
        "<p class=soft>A sample, decoded from the tokens that are stored, beside the images as the \
         model saw them. Whatever a decoded picture lacks, nobody who trains on the tokens will \
         see.</p>",
    );
    if all.images > 0 {
        let db = all.psnr_db.map_or("the same pixels".into(), |db| format!("{db:.2} dB"));
        big(page, &db, "PSNR, mean");
        let ssim = all.ssim.map_or("–".into(), |ssim| format!("{ssim:.4}"));
        big(page, &ssim, "SSIM, mean");
    }
    for (title, some) in [("Least alike", &all.worst), ("Most alike", &all.best)] {
        if !some.is_empty() {
            let _ = write!(page, "<h3>{title}</h3><div class=cards>");
            some.iter().for_each(|one| draw_pair(page, one));
            page.push_str("</div>");
        }
    }
    draw_reasons(page, all.not_compared, &all.reasons);
    page.push_str("</section>");
}

fn draw_pair(page: &mut String, one: &Reconstruction) {
    let alike = one.psnr_db.map_or("the same pixels".into(), |db| format!("PSNR {db:.2} dB"));
    let ssim = one.ssim.map_or(String::new(), |ssim| format!(", SSIM {ssim:.3}"));
    let _ = write!(page, "<div class=card2><p class=top>{alike}{ssim}</p><div class=strip>");
    for (picture, what) in one.pictures.iter().zip(["image", "decoded"]) {
        let _ = write!(page, "<figure><span class=shot>");
        if let Some(small) = Small::of(picture.clone(), what == "decoded") {
            image(page, &small, &one.key);
        }
        let _ = write!(page, "</span><figcaption>{}</figcaption></figure>", tag(what, ""));
    }
    let view = one.view.map_or(String::new(), |view| format!(" <small>view {view}</small>"));
    let _ = write!(page, "</div><p class=top>{}{view}</p></div>", key(&one.key));
}

fn draw_reasons(page: &mut String, number: u64, reasons: &[NotCompared]) {
    if reasons.is_empty() {
        return;
    }
    let what = counted(number, "image");
    let _ = write!(
        page,
        "<details class=long><summary>{what} of the sample not compared</summary>\
         <div class=wide tabindex=0>"
    );
    let row = |one: &NotCompared| vec![format!("<td>{}</td>", cell(&one.key)), text(&one.reason)];
    table(page, &["key", "why"], reasons.iter().map(row));
    page.push_str("</div></details>");
}

fn draw_precision(page: &mut String, found: &PrecisionFindings) {
    let sample = counted(found.images, "image");
    open_section(page, "precision", "Tokens computed again", Some(sample));
    let stored = found.stored_by.as_deref().unwrap_or("an engine that isn't named");
    let _ = write!(
        page,
        "<p class=soft>The tokens of a sample, {}, computed again from the images. Those stored are \
         of {}.</p><div class=wide tabindex=0>",
        counted(found.tokens, "token"),
        cell(stored)
    );
    let rows = found.pairs.iter().map(|pair| {
        let margin = |margins: &Margins| format!("<td class=n>{}</td>", short(margins.most));
        vec![
            text(&pair.a),
            text(&pair.b),
            number(pair.changed),
            format!("<td class=n>{}</td>", share(pair.changed, found.tokens)),
            number(pair.changed_images),
            pair.margins.as_ref().map_or("<td class=n>–</td>".into(), margin),
        ]
    });
    let heads = ["of", "and", "tokens that differ", "share", "images", "largest margin"];
    table(page, &heads, rows);
    page.push_str("</div>");
    match (&found.margins, &found.no_margins) {
        (Some(margins), _) => draw_margins(page, margins),
        (None, Some(why)) => {
            let _ = write!(page, "<p class=soft>No margins: {}.</p>", cell(why));
        }
        (None, None) => {}
    }
    draw_reasons(page, found.not_compared, &found.reasons);
    page.push_str("</section>");
}

fn draw_margins(page: &mut String, margins: &Margins) {
    page.push_str(
        "<p class=soft>A token changes once its latent moves by its margin, a share of its length: \
         float32 rounds by up to 6e-8, bfloat16 by up to 4e-3, layer by layer.</p>\
         <div class=wide tabindex=0>",
    );
    let rows = margins.below.iter().map(|below| {
        let share = share(below.tokens, margins.tokens);
        vec![
            format!("<td class=n>{}</td>", short(below.margin)),
            number(below.tokens),
            format!("<td class=n>{share}</td>"),
        ]
    });
    table(page, &["margin below", "tokens", "share"], rows);
    page.push_str("</div>");
}

fn share(part: u64, all: u64) -> String {
    if part == 0 { "none".into() } else { percent(part, all) }
}

/// What the most used codes look like.
pub(super) fn draw_codes(page: &mut String, findings: &Findings) {
    let Some(pictures) = &findings.code_pictures else { return };
    let tokens: u64 = findings.report.levels.first().map_or(0, |level| level.tokens);
    let drawn = pictures.codes.iter().filter(|code| code.alone.is_some() && code.uses > 0);
    let drawn: Vec<&CodePicture> = drawn.take(ON_PAGE).collect();
    if drawn.is_empty() {
        return;
    }
    let title = format!("The {} most used codes", count(drawn.len()));
    open_section(page, "codes", &title, None);
    page.push_str(
        "<p class=soft>Each as the decoder draws it: on the left alone, on the right with the \
         neighbours that it has most often.</p><div class=strip>",
    );
    for code in drawn {
        let name = format!("code {}", code.code);
        page.push_str("<figure><span class=shot style=\"aspect-ratio:2;display:flex\">");
        for picture in [&code.alone, &code.around] {
            draw_half(page, picture.as_ref(), &name);
        }
        let _ = write!(
            page,
            "</span><figcaption><span>{name}</span><small>{}</small></figcaption></figure>",
            percent(code.uses, tokens)
        );
    }
    page.push_str("</div></section>");
}

fn draw_half(page: &mut String, picture: Option<&Picture>, name: &str) {
    page.push_str("<span style=\"width:50%\">");
    if let Some(small) = picture.and_then(|picture| Small::of(picture.clone(), true)) {
        image(page, &small, name);
    }
    page.push_str("</span>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::reconstructions::TokenPair;

    #[test]
    fn pictures_stand_in_pairs_and_keys_are_text() {
        let picture = || Picture { width: 2, height: 2, rgb: vec![9; 12] };
        let one = Reconstruction {
            key: "<b>.png".into(),
            view: Some(3),
            psnr_db: Some(21.5),
            ssim: None,
            pictures: [picture(), picture()],
        };
        let mut all = Reconstructions::default();
        all.take(one, 21.5);
        all.pass_over("<i>", "changed".into());
        all.finish(1, 0);
        let mut page = String::new();
        draw_reconstructions(&mut page, &all);
        assert!(page.contains("&lt;b&gt;.png") && !page.contains("<b>.png"), "{page}");
        assert!(page.contains("21.50 dB") && page.contains("view 3") && page.contains("changed"));
        assert_eq!(page.matches("<img").count(), 4);
        assert_eq!(page.matches("<section").count(), page.matches("</section>").count());
    }

    #[test]
    fn other_arithmetic_is_a_table_with_margins() {
        let found = PrecisionFindings {
            images: 1,
            tokens: 100,
            pairs: vec![TokenPair {
                a: "stored".into(),
                b: "cuda bf16".into(),
                changed: 2,
                changed_images: 1,
                margins: Margins::of(vec![1e-3]),
            }],
            margins: Margins::of(vec![1e-3, 0.5]),
            ..PrecisionFindings::default()
        };
        let mut page = String::new();
        draw_precision(&mut page, &found);
        assert!(page.contains("cuda bf16") && page.contains("an engine that isn"), "{page}");
        assert_eq!(page.matches("<table").count(), 2);
    }
}
