//! Owns the page about an evaluation: models side by side on the same pictures, the worst first. Must
//! not know: how figures and pictures were made.

use std::fmt::Write;

use base64::Engine as _;
use image::codecs::jpeg::JpegEncoder;
use image::{RgbImage, imageops};

use super::figures::{EvaluationReport, GroupFigures, ImageFigures, ModelFigures, WorstImage};
use crate::data::contact_sheet;
use crate::error::{Error, Result};
use crate::util::html::{POLICY, escape, number, open_head, short, table, text};
use crate::util::numbers::counted;

/// What each model took an image for and made of it; None where it couldn't.
pub(crate) type Pictures = Vec<Option<(RgbImage, RgbImage)>>;

const STYLE: &str = "
body{max-width:76rem}.wide{overflow-x:auto}
.row{display:flex;gap:.8rem;flex-wrap:wrap;margin:.4rem 0 1.4rem}figure{margin:0}figcaption{font-size:.8rem;color:var(--soft);max-width:16rem}
figure img{display:block;width:16rem;height:auto;background:var(--card)}img.px{image-rendering:pixelated}
";

/// Side up to which a picture keeps every pixel.
const EXACT_MAX: u32 = 96;
/// Side that others are reduced to where they are larger.
const SIDE_MAX: u32 = 384;
/// Labels and sizes that are listed; the JSON has all.
const GROUPS_MAX: usize = 100;

/// The page; `pictures` are the worst images', in the report's order.
///
/// # Errors
/// A picture that can't be encoded.
pub(crate) fn render(
    report: &EvaluationReport,
    inputs: &str,
    pictures: &[Pictures],
) -> Result<String> {
    let mut page = open_head(&format!("{inputs}: evaluation"), STYLE);
    page.push_str(POLICY);
    let _ = write!(page, "<body><h1>What models keep of {}</h1>", escape(inputs));
    let models = counted(report.models.len(), "model");
    let _ = write!(page, "<p class=soft>{models}, {}.</p>", counted(report.images, "image"));
    draw_models(&mut page, report);
    if !report.worst.is_empty() {
        page.push_str("<h2>Worst first</h2>");
        for (image, pictures) in report.worst.iter().zip(pictures) {
            draw_image(&mut page, report, image, pictures)?;
        }
    }
    for (title, of) in [
        ("By label", (|model| &model.labels) as fn(&ModelFigures) -> &Vec<GroupFigures>),
        ("By the shorter side of the image, in pixels", |model| &model.sizes),
    ] {
        draw_groups(&mut page, report, title, of);
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value
        .map_or("<td class=n>–</td>".into(), |value| format!("<td class=n>{value:.digits$}</td>"))
}

/// The column of what needs a reference.
const TO_REFERENCE: usize = 6;

fn draw_models(page: &mut String, report: &EvaluationReport) {
    let lpips = report.lpips_network.map_or("LPIPS".into(), |net| format!("LPIPS ({net})"));
    let mut heads = vec![
        "model",
        "PSNR, dB",
        "SSIM",
        "MS-SSIM",
        &lpips,
        "rFID",
        "FID to reference",
        "codes used",
        "perplexity",
        "bits a token",
        "tokens an image",
        "images/s",
        "failed",
    ];
    if report.reference_images.is_none() {
        heads.remove(TO_REFERENCE);
    }
    page.push_str("<div class=wide tabindex=0>");
    let rows = report.models.iter().map(|model| {
        let means = &model.means;
        let share = |share: f64| format!("<td class=n>{:.1} %</td>", 100.0 * share);
        let rounded = |value: f64| format!("<td class=n>{}</td>", short(value));
        let none = || "<td class=n>–</td>".to_string();
        let mut row = vec![
            text(&model.model),
            figure(means.psnr_db, 2),
            figure(means.ssim, 4),
            figure(means.ms_ssim, 4),
            figure(means.lpips, 4),
            figure(model.rfid, 3),
            figure(model.fid_to_reference, 3),
            model.usage.map_or_else(none, share),
            model.perplexity.map_or_else(none, rounded),
            figure(model.bits_per_token, 2),
            model.tokens_per_image.map_or_else(none, rounded),
            model.images_per_second.map_or_else(none, rounded),
            number(model.failed),
        ];
        if report.reference_images.is_none() {
            row.remove(TO_REFERENCE);
        }
        row
    });
    table(page, &heads, rows);
    page.push_str("</div>");
}

fn draw_image(
    page: &mut String,
    report: &EvaluationReport,
    image: &WorstImage,
    pictures: &Pictures,
) -> Result<()> {
    let label = image.label.as_ref().map_or(String::new(), |label| format!(" ({label})"));
    let _ = write!(page, "<h3>{}</h3><div class=row>", escape(&format!("{}{label}", image.key)));
    let mut shown: Option<&RgbImage> = None;
    for ((model, figures), pair) in report.models.iter().zip(&image.models).zip(pictures) {
        let Some((source, output)) = pair else {
            let _ = write!(
                page,
                "<figure><figcaption>{}<br>not reconstructed</figcaption></figure>",
                escape(&model.model)
            );
            continue;
        };
        // Models of other sizes took other pixels.
        if shown != Some(source) {
            draw_picture(page, source, "the image")?;
            shown = Some(source);
        }
        let words = figures.as_ref().map_or(String::new(), in_words);
        draw_picture(page, output, &format!("{}: {words}", model.model))?;
    }
    page.push_str("</div>");
    Ok(())
}

fn in_words(figures: &ImageFigures) -> String {
    let mut words = vec![match figures.psnr_db {
        Some(db) => format!("{db:.2} dB"),
        None => "the same pixels".into(),
    }];
    let more = [("SSIM", figures.ssim), ("LPIPS", figures.lpips)];
    words
        .extend(more.into_iter().filter_map(|(name, value)| Some(format!("{name} {:.3}", value?))));
    words.join(", ")
}

fn draw_picture(page: &mut String, picture: &RgbImage, caption: &str) -> Result<()> {
    let (width, height) = picture.dimensions();
    let exact = width.max(height) <= EXACT_MAX;
    let (kind, bytes) = match exact {
        true => ("png", contact_sheet::png(picture)?),
        false => ("jpeg", jpeg(picture)?),
    };
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    let class = if exact { " class=px" } else { "" };
    let caption = escape(caption);
    let _ = write!(
        page,
        "<figure><img{class} decoding=async width={width} height={height} alt=\"{caption}\" \
         src=\"data:image/{kind};base64,{data}\"><figcaption>{caption}</figcaption></figure>"
    );
    Ok(())
}

fn jpeg(picture: &RgbImage) -> Result<Vec<u8>> {
    let (width, height) = picture.dimensions();
    let side = width.max(height);
    let reduced = |of: u32| (u64::from(of) * u64::from(SIDE_MAX) / u64::from(side)).max(1) as u32;
    let smaller = (side > SIDE_MAX).then(|| {
        let filter = imageops::FilterType::CatmullRom;
        imageops::resize(picture, reduced(width), reduced(height), filter)
    });
    let mut bytes = Vec::new();
    smaller
        .as_ref()
        .unwrap_or(picture)
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92))
        .map_err(|error| Error::invalid(format!("a picture can't be encoded as JPEG: {error}")))?;
    Ok(bytes)
}

/// Figures of the same groups of images side by side.
fn draw_groups(
    page: &mut String,
    report: &EvaluationReport,
    title: &str,
    of: fn(&ModelFigures) -> &Vec<GroupFigures>,
) {
    let Some(most) = report.models.iter().max_by_key(|model| of(model).len()) else { return };
    if of(most).is_empty() {
        return;
    }
    let mut heads = vec![String::new(), "images".into()];
    for model in &report.models {
        heads.extend(["PSNR, dB", "SSIM", "LPIPS"].map(|what| format!("{}: {what}", model.model)));
    }
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let _ = write!(page, "<h2>{title}</h2><div class=wide tabindex=0>");
    let rows = of(most).iter().take(GROUPS_MAX).map(|group| {
        let mut row = vec![text(&group.of), number(group.means.images)];
        for model in &report.models {
            let own = of(model).iter().find(|own| own.of == group.of).map(|own| &own.means);
            row.push(figure(own.and_then(|means| means.psnr_db), 2));
            row.push(figure(own.and_then(|means| means.ssim), 4));
            row.push(figure(own.and_then(|means| means.lpips), 4));
        }
        row
    });
    table(page, &heads, rows);
    page.push_str("</div>");
    if let Some(more @ 1..) = of(most).len().checked_sub(GROUPS_MAX) {
        let _ = write!(page, "<p class=soft>{} more in the JSON.</p>", counted(more, "group"));
    }
}
