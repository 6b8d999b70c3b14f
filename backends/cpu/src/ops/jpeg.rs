//! JPEG files to coefficients: markers, Huffman codes, sequential and progressive scans
//! (ITU-T T.81).
//!
//! The pixels are made in `jpeg_pixels.rs`, exactly as libjpeg-turbo makes them by default, which
//! is what ONNX's ImageDecoder asks for.
use rinfer_graph::{Reason, invalid, scarce, unsupported};

use super::jpeg_pixels;

/// An image decoded to 8 bits: rows of pixels of 1 (grey) or 3 (red, green, blue) channels.
pub(super) struct Pixels {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub data: Vec<u8>,
}

/// The coefficients of one component, in blocks of 64, rows of blocks padded to whole MCUs.
pub(super) struct Component {
    pub id: u8,
    pub h: usize,
    pub v: usize,
    table: usize,
    /// Blocks in a row and in a column, padding included.
    pub blocks: [usize; 2],
    /// Samples in a row and in a column, without padding.
    pub samples: [usize; 2],
    pub coefficients: Vec<i16>,
    /// The quantization table, in natural order, as it stood when the component was scanned.
    pub quant: [u16; 64],
    dc: i32,
}

pub(super) struct Frame {
    pub width: usize,
    pub height: usize,
    pub components: Vec<Component>,
    /// The largest factors of all components.
    pub h: usize,
    pub v: usize,
    progressive: bool,
    pub jfif: bool,
    /// The transform that an Adobe marker names.
    pub adobe: Option<u8>,
}

/// Where the k-th coefficient of a scan stands in a block.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Codes up to this long are found by one look.
const FAST: u32 = 9;

#[derive(Clone)]
struct Huffman {
    /// Length and value of the code that begins with these bits; length 0 if it is longer.
    fast: Vec<(u8, u8)>,
    /// For each length the first code that is too large, left-aligned to 16 bits.
    limit: [u32; 17],
    /// For each length what turns a code into an index of `values`.
    offset: [i32; 17],
    values: Vec<u8>,
}

impl Huffman {
    fn new(counts: &[u8], values: &[u8]) -> Result<Huffman, Reason> {
        let mut table = Huffman {
            fast: vec![(0, 0); 1 << FAST],
            limit: [0; 17],
            offset: [0; 17],
            values: values.to_vec(),
        };
        let (mut code, mut index) = (0u32, 0usize);
        for len in 1..=16 {
            table.offset[len] = index as i32 - code as i32;
            for _ in 0..counts[len - 1] {
                if code >> len != 0 {
                    return Err(invalid!("a JPEG file with more codes than bits have room for"));
                }
                if len as u32 <= FAST {
                    let shift = FAST - len as u32;
                    let first = (code << shift) as usize;
                    table.fast[first..first + (1 << shift)].fill((len as u8, values[index]));
                }
                code += 1;
                index += 1;
            }
            table.limit[len] = code << (16 - len);
            code <<= 1;
        }
        Ok(table)
    }
}

/// Bits of the entropy-coded data; behind its end there are zeros.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.data.get(self.at) {
                Some(0xFF) if self.data.get(self.at + 1) == Some(&0) => {
                    self.at += 2;
                    0xFF
                }
                // A marker: whoever reads on gets zeros.
                Some(0xFF) | None => 0,
                Some(&byte) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    fn take(&mut self, n: u32) -> u32 {
        if n == 0 {
            return 0;
        }
        if self.count < n {
            self.fill();
        }
        let bits = (self.buffer >> (64 - n)) as u32;
        self.buffer <<= n;
        self.count -= n;
        bits
    }

    /// A number of `n` bits, negative if its first bit is 0.
    fn signed(&mut self, n: u32) -> i32 {
        let bits = self.take(n) as i32;
        if n > 0 && bits < 1 << (n - 1) { bits - (1 << n) + 1 } else { bits }
    }

    fn symbol(&mut self, table: &Huffman) -> Result<u8, Reason> {
        if self.count < 16 {
            self.fill();
        }
        let (len, value) = table.fast[(self.buffer >> (64 - FAST)) as usize];
        if len > 0 {
            self.take(u32::from(len));
            return Ok(value);
        }
        let bits = (self.buffer >> 48) as u32;
        let len = (FAST as usize + 1..=16).find(|&len| bits < table.limit[len]);
        let len = len.ok_or_else(|| invalid!("a JPEG file with an unknown code"))?;
        let code = self.take(len as u32) as i32;
        let value = table.values.get((code + table.offset[len]) as usize).copied();
        value.ok_or_else(|| invalid!("a JPEG file with an unknown code"))
    }

    /// Goes on behind a restart marker, if one stands here.
    fn restart(&mut self) {
        (self.buffer, self.count) = (0, 0);
        if let Some(&[0xFF, 0xD0..=0xD7]) = self.data.get(self.at..self.at + 2) {
            self.at += 2;
        }
    }
}

/// What a scan adds to the coefficients.
struct Scan {
    /// Component, DC table, AC table.
    parts: Vec<(usize, usize, usize)>,
    /// First and last coefficient.
    band: [usize; 2],
    /// The bit that is sent, and the one sent before (0 if none).
    low: u32,
    high: u32,
}

#[derive(Default)]
struct Decoder {
    quant: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    interval: usize,
    frame: Option<Frame>,
    jfif: bool,
    adobe: Option<u8>,
}

/// Decodes a JPEG file whose pixels take no more than `limit` bytes.
pub(super) fn decode(data: &[u8], limit: usize) -> Result<Pixels, Reason> {
    let mut decoder = Decoder::default();
    let mut at = 2;
    while let Some(marker) = next_marker(data, &mut at) {
        if marker == 0xD9 {
            break;
        }
        if matches!(marker, 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let size = data.get(at..at + 2).map(|b| usize::from(b[0]) << 8 | usize::from(b[1]));
        let body = size.and_then(|n| data.get(at + 2..at.checked_add(n)?));
        let body = body.ok_or_else(|| invalid!("a JPEG file that ends in a marker"))?;
        at += body.len() + 2;
        match marker {
            0xC0..=0xC2 => decoder.frame(body, marker == 0xC2, limit)?,
            0xC4 => decoder.huffman(body)?,
            0xC3 | 0xC5..=0xC7 | 0xC9..=0xCF => {
                return Err(unsupported!("JPEG files of kind {marker:#x} are not supported"));
            }
            0xDA => at += decoder.scan(body, &data[at..])?,
            0xDB => decoder.quantization(body)?,
            0xDD => {
                let n = body.first_chunk::<2>().map(|b| u16::from_be_bytes(*b));
                decoder.interval = usize::from(n.unwrap_or(0));
            }
            0xE0 => decoder.jfif |= body.starts_with(b"JFIF\0"),
            0xEE if body.starts_with(b"Adobe") => decoder.adobe = body.get(11).copied(),
            _ => {}
        }
    }
    let frame = decoder.frame.ok_or_else(|| invalid!("a JPEG file without an image"))?;
    jpeg_pixels::pixels(&Frame { jfif: decoder.jfif, adobe: decoder.adobe, ..frame })
}

/// The next marker's code; `at` moves behind it.
fn next_marker(data: &[u8], at: &mut usize) -> Option<u8> {
    let rest = data.get(*at..)?;
    let start = rest.windows(2).position(|w| w[0] == 0xFF && w[1] != 0 && w[1] != 0xFF)?;
    *at += start + 2;
    Some(rest[start + 1])
}

impl Decoder {
    fn quantization(&mut self, mut body: &[u8]) -> Result<(), Reason> {
        while let [head, rest @ ..] = body {
            let (wide, id) = (head >> 4 != 0, usize::from(head & 3));
            let size = if wide { 128 } else { 64 };
            let (values, after) = rest
                .split_at_checked(size)
                .ok_or_else(|| invalid!("a JPEG file with half a quantization table"))?;
            let mut table = [0; 64];
            for (k, &place) in ZIGZAG.iter().enumerate() {
                table[usize::from(place)] = match wide {
                    true => u16::from_be_bytes([values[2 * k], values[2 * k + 1]]),
                    false => u16::from(values[k]),
                };
            }
            self.quant[id] = Some(table);
            body = after;
        }
        Ok(())
    }

    fn huffman(&mut self, mut body: &[u8]) -> Result<(), Reason> {
        let short = || invalid!("a JPEG file with half a Huffman table");
        while let [head, rest @ ..] = body {
            let (counts, rest) = rest.split_at_checked(16).ok_or_else(short)?;
            let total = counts.iter().map(|&n| usize::from(n)).sum();
            let (values, after) = rest.split_at_checked(total).ok_or_else(short)?;
            let table = Some(Huffman::new(counts, values)?);
            match head >> 4 {
                0 => self.dc[usize::from(head & 3)] = table,
                _ => self.ac[usize::from(head & 3)] = table,
            }
            body = after;
        }
        Ok(())
    }

    fn frame(&mut self, body: &[u8], progressive: bool, limit: usize) -> Result<(), Reason> {
        let [precision, h1, h0, w1, w0, n, parts @ ..] = body else {
            return Err(invalid!("a JPEG file with half a header"));
        };
        let size = |hi: u8, lo: u8| usize::from(hi) << 8 | usize::from(lo);
        let (width, height) = (size(*w1, *w0), size(*h1, *h0));
        if self.frame.is_some() || width == 0 || height == 0 || *precision != 8 {
            return Err(unsupported!("a JPEG file of {width}x{height}, {precision} bits"));
        }
        if !matches!(n, 1 | 3) || parts.len() != 3 * usize::from(*n) {
            return Err(unsupported!("a JPEG file of {n} components"));
        }
        let factors: Vec<(usize, usize)> = parts
            .chunks_exact(3)
            .map(|p| (usize::from(p[1] >> 4), usize::from(p[1] & 15)))
            .collect();
        if factors.iter().any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(invalid!("a JPEG file with sampling factors {factors:?}"));
        }
        let h = factors.iter().map(|f| f.0).max().unwrap_or(1);
        let v = factors.iter().map(|f| f.1).max().unwrap_or(1);
        // Coefficients take twice the bytes of samples.
        if width.saturating_mul(height).saturating_mul(3 * usize::from(*n)) > limit {
            let text = format!("a JPEG file of {width}x{height} takes more than {limit} bytes");
            return Err(Reason::new(rinfer_graph::Kind::Limit, text));
        }
        let mcus = [width.div_ceil(8 * h), height.div_ceil(8 * v)];
        let mut components = Vec::new();
        for (p, &(ch, cv)) in parts.chunks_exact(3).zip(&factors) {
            // A component alone is never subsampled, whatever its factors say.
            let blocks = [mcus[0] * ch, mcus[1] * cv];
            components.push(Component {
                id: p[0],
                h: ch,
                v: cv,
                table: usize::from(p[2] & 3),
                blocks,
                samples: [(width * ch).div_ceil(h), (height * cv).div_ceil(v)],
                coefficients: scarce::zeros(blocks[0] * blocks[1] * 64),
                quant: [1; 64],
                dc: 0,
            });
        }
        let (jfif, adobe) = (false, None);
        self.frame = Some(Frame { width, height, components, h, v, progressive, jfif, adobe });
        Ok(())
    }

    /// Decodes one scan; returns how many bytes of `data` it took.
    fn scan(&mut self, header: &[u8], data: &[u8]) -> Result<usize, Reason> {
        let frame = self.frame.as_mut().ok_or_else(|| invalid!("a JPEG scan without a frame"))?;
        let bad = || invalid!("a JPEG file with a wrong scan header");
        let (&n, rest) = header.split_first().ok_or_else(bad)?;
        let (parts, rest) = rest.split_at_checked(2 * usize::from(n)).ok_or_else(bad)?;
        let &[start, end, bits, ..] = rest else { return Err(bad()) };
        let mut scan = Scan {
            parts: Vec::new(),
            band: [usize::from(start), usize::from(end)],
            low: u32::from(bits & 15),
            high: u32::from(bits >> 4),
        };
        if !frame.progressive {
            (scan.band, scan.low, scan.high) = ([0, 63], 0, 0);
        }
        for p in parts.chunks_exact(2) {
            let i = frame.components.iter().position(|c| c.id == p[0]).ok_or_else(bad)?;
            let component = &mut frame.components[i];
            if let Some(table) = self.quant[component.table] {
                component.quant = table;
            }
            scan.parts.push((i, usize::from(p[1] >> 4 & 3), usize::from(p[1] & 3)));
        }
        let [start, end] = scan.band;
        let wrong = start > end
            || end > 63
            || scan.low > 13
            || scan.parts.is_empty()
            || scan.parts.len() > 4
            || (frame.progressive && (start == 0) != (end == 0))
            || (start > 0 && scan.parts.len() != 1);
        if wrong {
            return Err(bad());
        }
        let mut run = ScanRun {
            bits: Bits { data, at: 0, buffer: 0, count: 0 },
            frame,
            scan: &scan,
            tables: (&self.dc, &self.ac),
            end_of_band: 0,
        };
        run.all(self.interval)?;
        Ok(run.bits.at)
    }
}

/// A scan under way.
struct ScanRun<'a> {
    bits: Bits<'a>,
    frame: &'a mut Frame,
    scan: &'a Scan,
    tables: (&'a [Option<Huffman>; 4], &'a [Option<Huffman>; 4]),
    /// Blocks that hold nothing more in this band.
    end_of_band: u32,
}

impl ScanRun<'_> {
    fn all(&mut self, interval: usize) -> Result<(), Reason> {
        let scan = self.scan;
        let single = scan.parts.len() == 1;
        let [columns, rows] = match single {
            true => self.frame.components[scan.parts[0].0].samples.map(|n| n.div_ceil(8)),
            false => [
                self.frame.width.div_ceil(8 * self.frame.h),
                self.frame.height.div_ceil(8 * self.frame.v),
            ],
        };
        self.frame.components.iter_mut().for_each(|c| c.dc = 0);
        for mcu in 0..columns * rows {
            if interval > 0 && mcu > 0 && mcu % interval == 0 {
                self.bits.restart();
                self.end_of_band = 0;
                self.frame.components.iter_mut().for_each(|c| c.dc = 0);
            }
            let (x, y) = (mcu % columns, mcu / columns);
            for &(i, dc, ac) in &scan.parts {
                let (h, v) = match single {
                    true => (1, 1),
                    false => (self.frame.components[i].h, self.frame.components[i].v),
                };
                for k in 0..h * v {
                    let (bx, by) = (x * h + k % h, y * v + k / h);
                    let at = (by * self.frame.components[i].blocks[0] + bx) * 64;
                    self.block(i, at, dc, ac)?;
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, i: usize, at: usize, dc: usize, ac: usize) -> Result<(), Reason> {
        let missing = || invalid!("a JPEG file that uses a Huffman table it does not define");
        let scan = self.scan;
        let component = &mut self.frame.components[i];
        let block = &mut component.coefficients[at..at + 64];
        if scan.band[0] == 0 {
            if scan.high > 0 {
                block[0] |= (self.bits.take(1) << scan.low) as i16;
            } else {
                let table = self.tables.0[dc].as_ref().ok_or_else(missing)?;
                let size = u32::from(self.bits.symbol(table)?);
                if size > 15 {
                    return Err(invalid!("a JPEG file with a difference of {size} bits"));
                }
                component.dc = component.dc.wrapping_add(self.bits.signed(size));
                block[0] = (component.dc << scan.low) as i16;
            }
        }
        if scan.band[1] == 0 {
            return Ok(());
        }
        let table = self.tables.1[ac].as_ref().ok_or_else(missing)?;
        match (self.frame.progressive, scan.high) {
            (true, 1..) => refine(&mut self.bits, table, scan, block, &mut self.end_of_band),
            _ => first(&mut self.bits, table, scan, block, &mut self.end_of_band),
        }
    }
}

/// The coefficients of a band, sent for the first time.
fn first(
    bits: &mut Bits<'_>,
    table: &Huffman,
    scan: &Scan,
    block: &mut [i16],
    end_of_band: &mut u32,
) -> Result<(), Reason> {
    if *end_of_band > 0 {
        *end_of_band -= 1;
        return Ok(());
    }
    let mut k = scan.band[0].max(1);
    while k <= scan.band[1] {
        let symbol = bits.symbol(table)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros < 15 {
                // Sequential files know only a run of this block.
                *end_of_band = (1 << zeros) - 1 + bits.take(zeros as u32);
                return Ok(());
            }
            k += 16;
            continue;
        }
        k += zeros;
        let Some(&place) = ZIGZAG.get(k) else {
            return Err(invalid!("a JPEG file with a block of more than 64 coefficients"));
        };
        block[usize::from(place)] = (bits.signed(size) << scan.low) as i16;
        k += 1;
    }
    Ok(())
}

/// One more bit of the coefficients of a band.
fn refine(
    bits: &mut Bits<'_>,
    table: &Huffman,
    scan: &Scan,
    block: &mut [i16],
    end_of_band: &mut u32,
) -> Result<(), Reason> {
    let one = 1i16 << scan.low;
    let correct = |bits: &mut Bits<'_>, c: &mut i16| {
        if bits.take(1) == 1 && *c & one == 0 {
            *c = c.wrapping_add(if *c >= 0 { one } else { -one });
        }
    };
    let mut k = scan.band[0];
    while k <= scan.band[1] && *end_of_band == 0 {
        let symbol = bits.symbol(table)?;
        let (mut zeros, mut fresh) = (i32::from(symbol >> 4), 0);
        match symbol & 15 {
            0 if zeros < 15 => {
                *end_of_band = (1 << zeros) + bits.take(zeros as u32);
                break;
            }
            0 => {}
            _ => fresh = if bits.take(1) == 1 { one } else { -one },
        }
        // Known coefficients on the way are corrected; zeros are counted.
        while k <= scan.band[1] {
            let c = &mut block[usize::from(ZIGZAG[k])];
            if *c != 0 {
                correct(bits, c);
            } else {
                zeros -= 1;
                if zeros < 0 {
                    *c = fresh;
                    k += 1;
                    break;
                }
            }
            k += 1;
        }
    }
    if *end_of_band > 0 {
        for place in &ZIGZAG[k..=scan.band[1]] {
            let c = &mut block[usize::from(*place)];
            if *c != 0 {
                correct(bits, c);
            }
        }
        *end_of_band -= 1;
    }
    Ok(())
}
