//! Parser of the compressed data of a sequential JPEG with Huffman coding. It checks that all blocks are present and
//! nothing else is (ITU-T T.81, annexes B and F).

/// Errors in compressed data that decoders ignore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Number of bytes after the last block of a scan or an interval.
    pub extraneous: usize,
    /// Number of missing blocks: the data end before them or contain no valid code.
    pub missing: usize,
}

struct Component {
    id: u8,
    /// Horizontal and vertical sampling factors.
    sampling: (usize, usize),
}

struct Frame {
    height: usize,
    width: usize,
    components: Vec<Component>,
}

/// Codes of one length start at `first`, and their symbols at `place`.
#[derive(Clone, Default)]
struct Table {
    lengths: [(u32, u32, usize); 16],
    symbols: Vec<u8>,
}

/// Faults of a file; `None` if it is not sequential with Huffman coding, or its headers are incomplete.
pub fn faults(bytes: &[u8]) -> Option<Faults> {
    let mut tables: [[Option<Table>; 4]; 2] = Default::default();
    let (mut frame, mut interval) = (None, 0);
    let (mut faults, mut at) = (Faults::default(), 2);
    loop {
        at += memchr::memchr(0xFF, bytes.get(at..)?)? + 1;
        let marker = *bytes.get(at)?;
        if matches!(marker, 0 | 1 | 0xD0..=0xD8 | 0xFF) {
            continue;
        }
        if marker == 0xD9 {
            return Some(faults);
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at + 1)?, *bytes.get(at + 2)?]));
        let segment = bytes.get(at + 3..at + 1 + length)?;
        at += 1 + length;
        match marker {
            0xC4 => read_tables(segment, &mut tables)?,
            0xC0 | 0xC1 => frame = Some(Frame::read(segment)?),
            0xC2 | 0xC3 | 0xC5..=0xCF => return None,
            0xDD => interval = usize::from(u16::from_be_bytes([*segment.first()?, *segment.get(1)?])),
            0xDA => {
                let blocks = frame.as_ref()?.blocks(segment, &tables)?;
                let mut reader = Reader { bytes, at, byte: 0, bits: 0 };
                faults.extraneous += blocks.walk(&mut reader, interval, &mut faults.missing);
                at = reader.at;
            }
            _ => {}
        }
    }
}

fn read_tables(mut segment: &[u8], tables: &mut [[Option<Table>; 4]; 2]) -> Option<()> {
    while let Some((&head, rest)) = segment.split_first() {
        let (counts, rest) = rest.split_at_checked(16)?;
        let mut table = Table::default();
        let (mut code, mut place) = (0u32, 0);
        for (length, &count) in table.lengths.iter_mut().zip(counts) {
            *length = (code, u32::from(count), place);
            code = (code + u32::from(count)) << 1;
            place += usize::from(count);
        }
        let (symbols, rest) = rest.split_at_checked(place)?;
        table.symbols = symbols.to_vec();
        *tables.get_mut(usize::from(head >> 4))?.get_mut(usize::from(head & 15))? = Some(table);
        segment = rest;
    }
    Some(())
}

impl Frame {
    fn read(segment: &[u8]) -> Option<Self> {
        let (head, components) = segment.split_at_checked(6)?;
        let number = |at: usize| usize::from(u16::from_be_bytes([head[at], head[at + 1]]));
        let component = |three: &[u8]| {
            let sampling = (usize::from(three[1] >> 4), usize::from(three[1] & 15));
            let sound = (1..=4).contains(&sampling.0) && (1..=4).contains(&sampling.1);
            sound.then_some(Component { id: three[0], sampling })
        };
        let components: Vec<_> = components.chunks_exact(3).map(component).collect::<Option<_>>()?;
        let frame = Self { height: number(1), width: number(3), components };
        (frame.height > 0 && frame.width > 0 && !frame.components.is_empty()).then_some(frame)
    }

    /// Blocks of a scan, according to its header.
    fn blocks<'a>(&self, segment: &[u8], tables: &'a [[Option<Table>; 4]; 2]) -> Option<Blocks<'a>> {
        let most = |of: fn(&Component) -> usize| self.components.iter().map(of).max();
        let (across, down) = (most(|c| c.sampling.0)?, most(|c| c.sampling.1)?);
        let chosen = segment.get(1..1 + 2 * usize::from(*segment.first()?))?.as_chunks::<2>().0;
        let mut unit = Vec::new();
        for [id, selectors] in chosen {
            let component = self.components.iter().find(|component| component.id == *id)?;
            let table = |class: usize, number: u8| tables[class].get(usize::from(number))?.as_ref();
            let pair = (table(0, selectors >> 4)?, table(1, selectors & 15)?);
            let (h, v) = component.sampling;
            if let [_] = chosen {
                // A scan of a single component has a block grid of its own.
                let columns = (self.width * h).div_ceil(across).div_ceil(8);
                let rows = (self.height * v).div_ceil(down).div_ceil(8);
                return Some(Blocks { units: columns * rows, unit: vec![pair] });
            }
            unit.extend(std::iter::repeat_n(pair, h * v));
        }
        let units = self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down);
        Some(Blocks { units, unit })
    }
}

/// Blocks of a scan: the layout of its units, and each block's Huffman tables for the DC and AC coefficients.
struct Blocks<'a> {
    units: usize,
    unit: Vec<(&'a Table, &'a Table)>,
}

impl Blocks<'_> {
    /// Reads every block and returns the number of extraneous bytes. After an error, the rest of the interval counts as
    /// missing.
    fn walk(&self, reader: &mut Reader, interval: usize, missing: &mut usize) -> usize {
        let interval = if interval == 0 { self.units } else { interval };
        let (mut extraneous, mut done) = (0, 0);
        while done < self.units {
            let end = self.units.min(done + interval);
            let mut blocks = (done..end).flat_map(|_| &self.unit);
            let read = blocks.by_ref().take_while(|(dc, ac)| reader.block(dc, ac).is_some()).count();
            let short = (end - done) * self.unit.len() - read;
            *missing += short;
            let rest = reader.skip_to_marker();
            extraneous += if short == 0 { rest } else { 0 };
            done = end;
            if done < self.units && !reader.pass_restart() {
                *missing += (self.units - done) * self.unit.len();
                break;
            }
        }
        extraneous
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    byte: u8,
    bits: u32,
}

impl Reader<'_> {
    /// Next bit; `None` at a marker or at the end.
    fn bit(&mut self) -> Option<u32> {
        if self.bits == 0 {
            self.byte = *self.bytes.get(self.at)?;
            if self.byte == 0xFF {
                if self.bytes.get(self.at + 1) != Some(&0) {
                    return None;
                }
                self.at += 1;
            }
            (self.at, self.bits) = (self.at + 1, 8);
        }
        self.bits -= 1;
        Some(u32::from(self.byte >> self.bits & 1))
    }

    fn symbol(&mut self, table: &Table) -> Option<u8> {
        let mut code = 0;
        for (first, count, place) in table.lengths {
            code = code << 1 | self.bit()?;
            if let Some(beyond) = code.checked_sub(first).filter(|beyond| *beyond < count) {
                return table.symbols.get(place + beyond as usize).copied();
            }
        }
        None
    }

    /// Reads the 64 coefficients of a block.
    fn block(&mut self, dc: &Table, ac: &Table) -> Option<()> {
        let bits = self.symbol(dc)?;
        (0..bits).try_for_each(|_| self.bit().map(drop))?;
        let mut place = 1;
        while place < 64 {
            let symbol = self.symbol(ac)?;
            let (run, bits) = (symbol >> 4, symbol & 15);
            match (run, bits) {
                (15, 0) => place += 16,
                (_, 0) => break,
                _ => {
                    (0..bits).try_for_each(|_| self.bit().map(drop))?;
                    place += usize::from(run) + 1;
                }
            }
        }
        (place <= 64).then_some(())
    }

    /// Skips to the next marker and returns the number of bytes before it.
    fn skip_to_marker(&mut self) -> usize {
        let start = self.at;
        self.bits = 0;
        while let Some(two) = self.bytes.get(self.at..self.at + 2) {
            match two {
                [0xFF, 0] => self.at += 2,
                [0xFF, 0xFF] => self.at += 1,
                [0xFF, _] => break,
                _ => self.at += 1,
            }
        }
        self.at - start
    }

    /// Skips a restart marker, if there is one.
    fn pass_restart(&mut self) -> bool {
        let found = matches!(self.bytes.get(self.at..self.at + 2), Some([0xFF, 0xD0..=0xD7]));
        self.at += if found { 2 } else { 0 };
        found
    }
}
