//! Owns what `vqtok audit` says of a sample that the model looked at: reconstructions, other
//! arithmetic.

use crate::findings::{
    Findings, Margins, NotCompared, PrecisionFindings, Reconstruction, Reconstructions, TokenPair,
};
use crate::util::numbers::{count, counted};
use crate::util::text;

/// A line for each thing that there is to say.
pub(super) fn in_words(findings: &Findings) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(all) = &findings.reconstructions {
        reconstructions(all, &mut lines);
    }
    if let Some(found) = &findings.precision {
        precision(found, &mut lines);
    }
    lines
}

fn reconstructions(all: &Reconstructions, lines: &mut Vec<String>) {
    if all.images > 0 {
        let alike = all.psnr_db.map_or("the same pixels".into(), |db| format!("PSNR {db:.2} dB"));
        let structure = all.ssim.map_or("no SSIM".into(), |ssim| format!("SSIM {ssim:.4}"));
        let (images, one) = (counted(all.images, "image"), |of: &[Reconstruction]| {
            of.first().map_or(String::new(), |one| {
                let db = one.psnr_db.map_or("the same".into(), |db| format!("{db:.2} dB"));
                format!("{} ({db})", text::shorten(&one.key))
            })
        });
        lines.push(format!("{images} decoded from the stored tokens: {alike}, {structure}"));
        lines.push(format!("  best: {}; worst: {}", one(&all.best), one(&all.worst)));
    }
    passed_over(all.not_compared, &all.reasons, lines);
}

fn passed_over(number: u64, reasons: &[NotCompared], lines: &mut Vec<String>) {
    if let Some(first) = reasons.first() {
        let (key, reason) = (text::shorten(&first.key), text::printable(&first.reason));
        let images = counted(number, "image");
        lines.push(format!("{images} of the sample not compared; the first: {key}: {reason}"));
    }
}

fn precision(found: &PrecisionFindings, lines: &mut Vec<String>) {
    let (images, tokens) = (counted(found.images, "image"), counted(found.tokens, "token"));
    let stored = found.stored_by.as_deref().unwrap_or("unknown arithmetic");
    if found.images == 0 {
        lines.push("no image was encoded again, so that nothing is known of precision".to_string());
        return passed_over(found.not_compared, &found.reasons, lines);
    }
    lines.push(format!("{images} encoded again, {tokens}; those stored are of {stored}:"));
    for TokenPair { a, b, changed, changed_images, margins } in &found.pairs {
        let mut line = match changed {
            0 => format!("  {a} and {b}: every token the same"),
            _ => format!(
                "  {a} and {b}: {} differ ({:.4} %), in {}",
                counted(*changed, "token"),
                100.0 * *changed as f64 / found.tokens.max(1) as f64,
                counted(*changed_images, "image")
            ),
        };
        if let Some(Margins { most, .. }) = margins {
            line += &format!("; margins up to {most:.1e}");
        }
        lines.push(line);
    }
    if let Some(Margins { tokens, percentile_1, median, least, .. }) = &found.margins {
        lines.push(format!(
            "  margins of {} tokens, as shares of their latents' lengths: median {median:.1e}, \
             1 % below {percentile_1:.1e}, the smallest {least:.1e}",
            count(*tokens)
        ));
    }
    lines.extend(found.no_margins.iter().map(|why| format!("  no margins: {why}")));
    passed_over(found.not_compared, &found.reasons, lines);
}
