//! Owns numpy's file format, version 1.0, as `np.save` writes it.

use super::ids::Width;

/// What stands before the elements: `dtype` is numpy's word for their type.
pub(super) fn header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    let sides = if let [one] = &sides[..] { format!("{one},") } else { sides.join(", ") };
    let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({sides}), }}");
    // Magic, version and length are 10 bytes; a line feed ends the padding.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((length as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out.resize(10 + length - 1, b' ');
    out.push(b'\n');
    out
}

/// numpy's word for unsigned integers.
pub(super) fn dtype(width: Width) -> &'static str {
    match width {
        Width::U8 => "|u1",
        Width::U16 => "<u2",
        Width::U32 => "<u4",
    }
}
