//! Owns how the name of an archive's member becomes text.

use crate::data::source::uri;

/// What cp437 has for the bytes from 128 on.
const CP437: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
                     └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// The name as text: UTF-8 where its flag says so, else cp437; `unicode` is Info-ZIP's extra field,
/// which holds it as UTF-8. Ends before a zero, as names in old archives do.
pub(super) fn key(name: &[u8], is_utf8: bool, unicode: Option<&[u8]>) -> String {
    let text = if is_utf8 {
        uri::readable(name)
    } else {
        unicode.and_then(|field| written_beside(name, field)).unwrap_or_else(|| cp437(name))
    };
    match text.split_once('\0') {
        Some((before, _)) => before.to_string(),
        None => text,
    }
}

/// The name in Info-ZIP's field: a version, the sum of the name that it was made for, UTF-8.
fn written_beside(name: &[u8], field: &[u8]) -> Option<String> {
    let (head, text) = field.split_at_checked(5)?;
    let mut sum = flate2::Crc::new();
    sum.update(name);
    let fresh = head[0] == 1 && head[1..] == sum.sum().to_le_bytes();
    std::str::from_utf8(text).ok().filter(|text| fresh && !text.is_empty()).map(str::to_string)
}

fn cp437(name: &[u8]) -> String {
    if name.is_ascii() {
        return String::from_utf8_lossy(name).into_owned();
    }
    let upper: Vec<char> = CP437.chars().collect();
    let text = |byte: &u8| match byte.checked_sub(128) {
        Some(at) => upper.get(usize::from(at)).copied().unwrap_or(char::REPLACEMENT_CHARACTER),
        None => char::from(*byte),
    };
    name.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_as_pythons_zipfile_does() {
        assert_eq!(CP437.chars().count(), 128);
        assert_eq!(key(b"\x82\x8a\xff.jpg", false, None), "\u{e9}\u{e8}\u{a0}.jpg");
        assert_eq!(key("猫/\u{e9}.jpg".as_bytes(), true, None), "猫/\u{e9}.jpg");
        assert_eq!(key(b"cut\xff.jpg", true, None), "cut%FF.jpg");
        assert_eq!(key(b"a.jpg\0junk", false, None), "a.jpg");
    }

    #[test]
    fn info_zips_field_counts_where_it_was_made_for_the_name() {
        let mut sum = flate2::Crc::new();
        sum.update(b"?.jpg");
        let field = [&[1][..], &sum.sum().to_le_bytes(), "猫.jpg".as_bytes()].concat();
        assert_eq!(key(b"?.jpg", false, Some(&field)), "猫.jpg");
        assert_eq!(key(b"renamed.jpg", false, Some(&field)), "renamed.jpg");
        assert_eq!(key(b"?.jpg", false, Some(&field[..3])), "?.jpg");
    }
}
