//! Owns what a page shows of what the model makes of the tokens: reconstructions, codes, other
//! arithmetic. Must not know: models.

use std::fmt::Write;

use super::cards::cell;
use super::facts::wide;
use super::open_section;
use super::thumbnails::Small;
use crate::findings::codes::{CodePicture, CodePictures};
use crate::findings::picture::Picture;
use crate::findings::reconstructions::{
    Margins, NotCompared, PrecisionFindings, Reconstruction, Reconstructions,
};
use crate::findings::result::Findings;
use crate::util::html::{big, escape, number, percent, short, table, text};
use crate::util::numbers::{count, counted};

/// Codes that are drawn.
pub(crate) const CODES_MAX: usize = 160;

pub(super) fn draw(page: &mut String, findings: &Findings, codes: Option<&CodePictures>) {
    if let Some(all) = findings.reconstructions.as_ref().filter(|all| all.images > 0) {
        draw_reconstructions(page, all);
    }
    let codes = codes.filter(|codes| codes.codes.iter().any(|code| code.alone.is_some()));
    if let Some(codes) = codes {
        draw_codes(page, codes, findings.report.levels.first().map_or(0, |level| level.tokens));
    }
    if let Some(found) = &findings.precision {
        draw_precision(page, found);
    }
}

fn draw_reconstructions(page: &mut String, all: &Reconstructions) {
    let images = counted(all.images, "image");
    open_section(page, "reconstructions", "What the tokens keep", Some(images));
    page.push_str(
        "<p class=soft>A sample of the source, and what the decoder makes of the tokens that are \
         stored.</p><p>",
    );
    if let Some(psnr) = all.psnr_db {
        big(page, &format!("{psnr:.2} dB"), "PSNR, mean");
    }
    if let Some(ssim) = all.ssim {
        big(page, &format!("{ssim:.3}"), "SSIM, mean");
    }
    page.push_str("</p>");
    for (title, some) in [("Least alike", &all.worst), ("Most alike", &all.best)] {
        let _ = write!(page, "<h3>{title}</h3><div class=cards>");
        some.iter().for_each(|one| draw_pair(page, one));
        page.push_str("</div>");
    }
    passed_over(page, all.not_compared, &all.reasons);
    page.push_str("</section>");
}

fn draw_pair(page: &mut String, one: &Reconstruction) {
    page.push_str("<div class=card2><div class=strip>");
    for (picture, what) in one.pictures.iter().zip(["image", "from its tokens"]) {
        page.push_str("<figure>");
        draw_picture(page, picture, &format!("{}: {what}", one.key));
        let _ = write!(page, "<figcaption><small>{what}</small></figcaption></figure>");
    }
    let alike = one.psnr_db.map_or("the same".into(), |db| format!("{db:.2} dB"));
    let ssim = one.ssim.map_or(String::new(), |ssim| format!(", SSIM {ssim:.3}"));
    let view = one.view.map_or(String::new(), |view| format!(", view {view}"));
    let key = cell(&one.key);
    let _ = write!(page, "</div><p class=top>{key}{view}: {alike}{ssim}</p></div>");
}

fn draw_picture(page: &mut String, picture: &Picture, name: &str) {
    match Small::of(picture.clone(), true) {
        Some(small) => small.draw(page, name),
        None => page.push_str("<span class=\"shot none\">no picture</span>"),
    }
}

fn passed_over(page: &mut String, number: u64, reasons: &[NotCompared]) {
    if number == 0 {
        return;
    }
    let images = counted(number, "image");
    let _ = write!(page, "<details><summary>{images} of the sample not compared</summary>");
    wide(page, |page| {
        let row =
            |one: &NotCompared| vec![format!("<td>{}</td>", cell(&one.key)), text(&one.reason)];
        table(page, &["key", "why"], reasons.iter().map(row));
    });
    page.push_str("</details>");
}

fn draw_codes(page: &mut String, codes: &CodePictures, tokens: u64) {
    let shown = codes.codes.len().min(CODES_MAX);
    let title = "What codes look like";
    open_section(page, "codes", title, Some(format!("the {} most used", count(shown))));
    page.push_str(
        "<p class=soft>Each code alone, as the decoder draws one token of a grid of nothing else, and \
         in the middle of the eight tokens that stand around it most often.</p><div class=codes>",
    );
    codes.codes.iter().take(CODES_MAX).for_each(|code| draw_code(page, code, tokens));
    page.push_str("</div></section>");
}

fn draw_code(page: &mut String, code: &CodePicture, tokens: u64) {
    page.push_str("<figure><div class=two>");
    let both = [(&code.alone, "alone"), (&code.around, "among its neighbours")];
    for (picture, how) in both {
        if let Some(picture) = picture {
            draw_picture(page, picture, &format!("code {} {how}", code.code));
        }
    }
    let share = percent(code.uses, tokens);
    let _ = write!(
        page,
        "</div><figcaption>{} <small>{share}</small></figcaption></figure>",
        code.code
    );
}

fn draw_precision(page: &mut String, found: &PrecisionFindings) {
    let images = counted(found.images, "image");
    open_section(page, "precision", "Whether other arithmetic gives the same tokens", Some(images));
    let stored = found.stored_by.as_deref().unwrap_or("unknown arithmetic");
    let _ = write!(
        page,
        "<p class=soft>A sample encoded again, {}; those stored are of {}.</p>",
        counted(found.tokens, "token"),
        escape(stored)
    );
    wide(page, |page| {
        let rows = found.pairs.iter().map(|pair| {
            let share = percent(pair.changed, found.tokens);
            let images = number(pair.changed_images);
            vec![text(&pair.a), text(&pair.b), number(pair.changed), text(&share), images]
        });
        table(page, &["one", "other", "tokens that differ", "share", "images with one"], rows);
    });
    draw_margins(page, found);
    passed_over(page, found.not_compared, &found.reasons);
    page.push_str("</section>");
}

/// How near to another code the tokens were.
fn draw_margins(page: &mut String, found: &PrecisionFindings) {
    if let Some(why) = &found.no_margins {
        let _ = write!(page, "<p class=soft>{}</p>", super::words::message(why));
    }
    let all = found.margins.iter().map(|margins| ("all tokens".to_string(), margins));
    let changed = found.pairs.iter().filter_map(|pair| {
        Some((format!("changed, {} and {}", pair.a, pair.b), pair.margins.as_ref()?))
    });
    let rows: Vec<_> = all.chain(changed).collect();
    if rows.is_empty() {
        return;
    }
    page.push_str("<h3>Margins</h3><p class=soft>How much further the next code is.</p>");
    wide(page, |page| {
        let value = |value: f64| format!("<td class=n>{}</td>", short(value));
        let row = |(what, margins): (String, &Margins)| {
            let Margins { tokens, least, percentile_1, median, most } = *margins;
            let values = [least, percentile_1, median, most].map(value);
            [vec![text(&what), number(tokens)], values.to_vec()].concat()
        };
        let heads = ["of", "tokens", "least", "1 % are below", "half are below", "most"];
        table(page, &heads, rows.into_iter().map(row));
    });
}
