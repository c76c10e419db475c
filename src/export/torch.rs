//! Owns `torch.save`'s files with one int64 tensor: a stored ZIP of a pickle and the elements, byte for
//! byte as torch 2 writes them. Must not know: who reads them.

/// What stands before an element's bytes in the file starts at a multiple of this.
const ALIGNMENT: usize = 64;
/// The first half of `.data/serialization_id`: torch's hash of the names of the records, which are
/// always the same.
const NAMES: &str = "15728199511854643026";

/// A pickle of protocol 2, as Python's writes it.
#[derive(Default)]
pub(super) struct Pickle {
    bytes: Vec<u8>,
    memo: usize,
}

impl Pickle {
    pub(super) fn new() -> Pickle {
        Pickle { bytes: b"\x80\x02".to_vec(), memo: 0 }
    }

    /// Remembers what was made last.
    fn put(&mut self) {
        self.bytes.extend([b'q', self.memo as u8]);
        self.memo += 1;
    }

    /// Begins a dict with its entries.
    pub(super) fn begin_dict(&mut self) {
        self.bytes.push(b'}');
        self.put();
        self.bytes.push(b'(');
    }

    /// Ends it.
    pub(super) fn end_dict(&mut self) {
        self.bytes.push(b'u');
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
        self.put();
    }

    fn global(&mut self, module_and_name: &str) {
        self.bytes.push(b'c');
        self.bytes.extend(module_and_name.as_bytes());
        self.bytes.push(b'\n');
        self.put();
    }

    fn number(&mut self, number: usize) {
        match number {
            0..=0xff => self.bytes.extend([b'K', number as u8]),
            0x100..=0xffff => {
                self.bytes.push(b'M');
                self.bytes.extend((number as u16).to_le_bytes());
            }
            _ => {
                self.bytes.push(b'J');
                self.bytes.extend((number as u32).to_le_bytes());
            }
        }
    }

    /// A tuple of one or two numbers.
    fn sides(&mut self, sides: &[usize]) {
        sides.iter().for_each(|side| self.number(*side));
        self.bytes.push(if sides.len() == 1 { 0x85 } else { 0x86 });
        self.put();
    }

    /// The tensor whose elements are those of the file, of one or two dimensions.
    pub(super) fn tensor(&mut self, shape: &[usize]) {
        self.global("torch._utils\n_rebuild_tensor_v2");
        self.bytes.extend(b"((");
        self.text("storage");
        self.global("torch\nLongStorage");
        self.text("0");
        self.text("cpu");
        self.number(shape.iter().product());
        self.bytes.push(b't');
        self.put();
        self.bytes.extend(b"QK\0");
        self.sides(shape);
        match shape {
            [_, width] => self.sides(&[*width, 1]),
            _ => self.sides(&[1]),
        }
        self.bytes.push(0x89);
        self.global("collections\nOrderedDict");
        self.bytes.extend(b")R");
        self.put();
        self.bytes.push(b't');
        self.put();
        self.bytes.push(b'R');
        self.put();
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'.');
        self.bytes
    }
}

/// A record of the ZIP, as its directory says it.
struct Record {
    name: String,
    crc: u32,
    size: u32,
    offset: u32,
}

/// The file of a pickle and its tensor's elements. `name` is that of its only folder: the stem of its
/// name, or `archive`.
pub(super) fn file(name: &str, pickle: Pickle, elements: &[u32]) -> Vec<u8> {
    let elements: Vec<u8> =
        elements.iter().flat_map(|element| u64::from(*element).to_le_bytes()).collect();
    let pickle = pickle.finish();
    let records: [(&str, &[u8]); 6] = [
        ("data.pkl", &pickle),
        (".format_version", b"1"),
        (".storage_alignment", b"64"),
        ("byteorder", b"little"),
        ("data/0", &elements),
        ("version", b"3\n"),
    ];
    let (mut out, mut directory, mut sum) = (Vec::new(), Vec::new(), 0_u64);
    for (record, content) in records {
        directory.push(append(&mut out, format!("{name}/{record}"), content));
        let crc = directory.last().map_or(0, |record| u64::from(record.crc));
        let mixed = crc.wrapping_add(0x9e37_79b9).wrapping_add(sum << 6).wrapping_add(sum >> 2);
        sum ^= mixed;
    }
    let id = format!("{NAMES}{sum:020}");
    directory.push(append(&mut out, format!("{name}/.data/serialization_id"), id.as_bytes()));
    end(&mut out, &directory);
    out
}

/// Appends a stored record, padded so that its content is aligned.
fn append(out: &mut Vec<u8>, name: String, content: &[u8]) -> Record {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let (offset, size) = (out.len() as u32, content.len() as u32);
    let crc = crc.sum();
    let start = out.len() + 30 + name.len() + 4;
    let padding = start.next_multiple_of(ALIGNMENT) - start;
    // Flags 0x808: sizes stand behind the content, names are UTF-8. No time, no version.
    out.extend(b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    out.extend((name.len() as u16).to_le_bytes());
    out.extend((padding as u16 + 4).to_le_bytes());
    out.extend(name.as_bytes());
    out.extend(b"FB");
    out.extend((padding as u16).to_le_bytes());
    out.resize(out.len() + padding, b'Z');
    out.extend(content);
    out.extend(b"PK\x07\x08");
    [crc, size, size].iter().for_each(|number| out.extend(number.to_le_bytes()));
    Record { name, crc, size, offset }
}

/// Appends the directory and what ends a ZIP.
fn end(out: &mut Vec<u8>, directory: &[Record]) {
    let offset = out.len() as u64;
    for Record { name, crc, size, offset } in directory {
        out.extend(b"PK\x01\x02\0\0\0\0\x08\x08\0\0\0\0\0\0");
        [crc, size, size].iter().for_each(|number| out.extend(number.to_le_bytes()));
        out.extend((name.len() as u32).to_le_bytes());
        out.extend([0; 10]);
        out.extend(offset.to_le_bytes());
        out.extend(name.as_bytes());
    }
    let (at, count) = (out.len() as u64, directory.len() as u64);
    let size = at - offset;
    out.extend(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x1e\x03\x2d\0\0\0\0\0\0\0\0\0");
    [count, count, size, offset].iter().for_each(|number| out.extend(number.to_le_bytes()));
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(at.to_le_bytes());
    out.extend(b"\x01\0\0\0PK\x05\x06\0\0\0\0");
    out.extend((count as u16).to_le_bytes());
    out.extend((count as u16).to_le_bytes());
    out.extend((size as u32).to_le_bytes());
    out.extend((offset as u32).to_le_bytes());
    out.extend([0; 2]);
}
