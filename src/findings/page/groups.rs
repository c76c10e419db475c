//! Owns how groups of images that are one are shown. Must not know: how they were found.

use std::fmt::Write;

use super::cards::{Shot, cell, figure, key, picture, rest, tag};
use super::frame::open_section;
use super::shown::{MEMBERS_MAX, Part, Shown};
use super::thumbnails::{Side, Thumbnails};
use super::words;
use crate::findings::result::{Duplicates, Kind, Member};
use crate::util::html::{escape, number};
use crate::util::numbers::{count, counted};

/// Keys that are listed beside one picture.
const KEYS_MAX: usize = 6;

pub(super) fn draw(page: &mut String, shown: &Shown<'_>, thumbnails: Option<&Thumbnails>) {
    let parts = [
        (
            "conflicts",
            "One image under several labels",
            &shown.conflicts,
            "At most one of the labels is right. Correct the others, or drop the whole group: a \
             model can only learn these by heart.",
        ),
        (
            "near",
            "Nearly the same picture",
            &shown.near,
            "Encoded again, resized, brightened, cropped, shifted, mirrored or turned. The one to \
             keep stands first: the largest, unless a protected one is there.",
        ),
        (
            "pixels",
            "The same tokens and size in different files",
            &shown.pixels,
            "The tokens and the size are equal, the files differ. One picture stands for the group.",
        ),
        (
            "files",
            "The same file",
            &shown.files,
            "Byte for byte the same. One picture stands for the group.",
        ),
    ];
    for (id, title, part, explained) in parts {
        if part.len() == 0 {
            continue;
        }
        open_section(page, id, title, Some(counted(part.len(), "group")));
        let _ = write!(page, "<p class=soft>{explained}</p>");
        draw_part(page, part, thumbnails);
        page.push_str("</section>");
    }
}

fn draw_part(page: &mut String, part: &Part<'_, Duplicates>, thumbnails: Option<&Thumbnails>) {
    page.push_str("<div class=cards>");
    for group in &part.pictured {
        match thumbnails {
            Some(thumbnails) if shows_each(group) => draw_each(page, group, thumbnails),
            thumbnails => draw_one(page, group, thumbnails),
        }
    }
    page.push_str("</div>");
    let heads = ["keep", "also there", "images", "similarity"];
    rest(page, &part.rest, "group", &heads, row);
}

/// Whether its pictures differ, or its labels.
fn shows_each(group: &Duplicates) -> bool {
    group.kind == Kind::Near || group.label_conflict
}

/// A card with the picture of each member.
fn draw_each(page: &mut String, group: &Duplicates, thumbnails: &Thumbnails) {
    let span = match group.members.len() {
        0..=2 => "",
        3..=5 => " s2",
        _ => " s3",
    };
    let _ = write!(page, "<div class=\"card2{span}\">");
    if group.label_conflict || group.members.len() > 2 {
        let images = counted(group.members.len(), "image");
        let _ = write!(page, "<p class=top>{images}: {}</p>", words::kind(group.kind));
    }
    page.push_str("<div class=strip>");
    for member in group.members.iter().take(MEMBERS_MAX) {
        let kept = member.key == group.keep;
        let mut above = match kept {
            true => tag("keep", "good"),
            false => tag(words::relation(member.relation), ""),
        };
        if let Some(label) = member.label.as_ref().filter(|_| group.label_conflict) {
            above += &tag(label, "bad");
        }
        let beneath = match kept || group.kind != Kind::Near {
            true => String::new(),
            false => format!("similarity {}", words::similarity(member.score)),
        };
        figure(
            page,
            thumbnails,
            &Shot { side: Side::Here, key: &member.key, kept, above, beneath },
        );
    }
    page.push_str("</div>");
    if let Some(more @ 1..) = group.members.len().checked_sub(MEMBERS_MAX) {
        let _ = write!(page, "<p class=top>and {} more</p>", count(more));
    }
    page.push_str("</div>");
}

/// A card with one picture, where there are any, and the keys of all.
fn draw_one(page: &mut String, group: &Duplicates, thumbnails: Option<&Thumbnails>) {
    page.push_str("<div class=card2><div class=same>");
    if let Some(thumbnails) = thumbnails {
        page.push_str("<figure class=kept>");
        picture(page, thumbnails, Side::Here, &group.keep);
        page.push_str("</figure>");
    }
    page.push_str("<ul>");
    for member in group.members.iter().take(KEYS_MAX) {
        let kept = match member.key == group.keep {
            true => tag("keep", "good"),
            false => String::new(),
        };
        let label = match (&member.label, group.label_conflict) {
            (Some(label), true) => tag(label, "bad"),
            _ => String::new(),
        };
        let _ = write!(page, "<li>{kept}{label}{}</li>", key(&member.key));
    }
    if let Some(more @ 1..) = group.members.len().checked_sub(KEYS_MAX) {
        let _ = write!(page, "<li class=soft>and {} more</li>", count(more));
    }
    page.push_str("</ul></div></div>");
}

fn row(group: &Duplicates) -> Vec<String> {
    let others = || group.members.iter().filter(|member| member.key != group.keep);
    let shown = |member: &Member| match (&member.label, group.label_conflict) {
        (Some(label), true) => format!("{} ({})", cell(&member.key), escape(label)),
        _ => cell(&member.key),
    };
    let mut keys: Vec<String> = others().take(KEYS_MAX).map(shown).collect();
    if let Some(more @ 1..) = others().count().checked_sub(KEYS_MAX) {
        keys.push(format!("and {} more", count(more)));
    }
    let keeper = group.members.iter().find(|member| member.key == group.keep);
    let score = others().map(|member| member.score).fold(1.0, f64::min);
    vec![
        format!("<td>{}</td>", keeper.map_or(String::new(), shown)),
        format!("<td>{}</td>", keys.join("<br>")),
        number(group.members.len() as u64),
        format!("<td class=n>{}</td>", words::similarity(score)),
    ]
}
