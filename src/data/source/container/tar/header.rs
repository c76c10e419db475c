//! Owns the fields of a tar's 512-byte headers, from those of Unix version 7 on. Must not know:
//! what a header belongs to.

/// A tar is made of blocks of this many bytes.
pub(super) const BLOCK: usize = 512;

pub(super) type Block = [u8; BLOCK];

/// Sizes and places beyond it are no file's.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Whether `head` begins with the header of a tar's member.
pub(crate) fn is_tar(head: &[u8]) -> bool {
    head.first_chunk::<BLOCK>().is_some_and(is_valid)
}

/// The name of the file or folder that a tar begins with; None where `head` isn't a tar's, or begins with
/// what is said of a member.
pub(crate) fn first_name(head: &[u8]) -> Option<Vec<u8>> {
    let block = head.first_chunk::<BLOCK>().filter(|block| is_valid(block))?;
    matches!(typeflag(block), 0 | b'0' | b'5').then(|| name(block))
}

/// Whether a block's checksum is that of its bytes. Some old writers summed them as signed numbers,
/// which add up to zero in many a file that is no tar: a checksum has digits.
pub(super) fn is_valid(block: &Block) -> bool {
    let field = &block[148..156];
    let digits = text(field).trim_ascii();
    let Some(told) = octal(field).filter(|_| !digits.is_empty()) else { return false };
    // The checksum's own place counts as spaces.
    let bytes = block[..148].iter().chain(&block[156..]);
    let spaces = 8 * u64::from(b' ');
    let high = bytes.clone().filter(|&&byte| byte >= 0x80).count() as u64;
    let unsigned = spaces + bytes.map(|&byte| u64::from(byte)).sum::<u64>();
    told == unsigned || high > 0 && unsigned.checked_sub(256 * high) == Some(told)
}

/// Whether it says of itself that it is a header, damaged or not.
pub(super) fn has_magic(block: &Block) -> bool {
    &block[257..262] == b"ustar"
}

/// What kind of member it is.
pub(super) fn typeflag(block: &Block) -> u8 {
    block[156]
}

/// The name, which longer ones are cut to.
pub(super) fn name(block: &Block) -> Vec<u8> {
    let name = text(&block[..100]);
    let prefix = text(&block[345..500]);
    // GNU tar has times there, and says so by a space where POSIX has the zero.
    if &block[257..263] != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// How many bytes follow it; None where that is no number, negative or too large.
pub(super) fn size(block: &Block) -> Option<u64> {
    number(&block[124..136])
}

/// A decimal number of at most that size, as PAX headers have them.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number: u64 = std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()?;
    (number <= NUMBER_MAX).then_some(number)
}

/// A number in octal digits between spaces and zeros, or in base 256 where its first bit is set.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    let number = if field[0] & 0x80 != 0 { base_256(field) } else { octal(field) };
    number.filter(|&number| number <= NUMBER_MAX)
}

fn octal(field: &[u8]) -> Option<u64> {
    text(field).trim_ascii().iter().try_fold(0_u64, |number, &digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

fn base_256(field: &[u8]) -> Option<u64> {
    // The second bit is the sign of two's complement.
    if field[0] & 0x40 != 0 {
        return None;
    }
    let first = u64::from(field[0] & 0x3f);
    field[1..].iter().try_fold(first, |number, &byte| {
        number.checked_mul(256).map(|number| number + u64::from(byte))
    })
}

/// What stands before the first zero.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}
