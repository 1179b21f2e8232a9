//! Views from originals: lays out programs for the kernel, which makes one view per block.

use candle_core::{DType, Device, Result, Tensor};

use super::launch::{Grid, Kernel, Module, launch};
use super::memory::{address, count, device_of, uninitialized};
use super::upload::upload;
use crate::backend::contract::{PixelOperation, ViewProgram, ViewPrograms};

/// A view, as the kernel takes it.
#[derive(Clone, Copy)]
#[repr(C)]
struct View {
    pixels: u64,
    scratch: u64,
    stride: u32,
    first_row: u32,
    rows: u32,
    column_slots: u32,
    row_slots: u32,
    tables: u32,
    operations: u32,
    reserved: u32,
}

impl View {
    /// Bytes in the order of the kernel's struct.
    fn bytes(self) -> Vec<u8> {
        let long = [self.pixels, self.scratch].into_iter().flat_map(u64::to_ne_bytes);
        let short = [self.stride, self.first_row, self.rows, self.column_slots];
        let more = [self.row_slots, self.tables, self.operations, self.reserved];
        long.chain(short.into_iter().chain(more).flat_map(u32::to_ne_bytes)).collect()
    }
}

/// Views of one size, as the kernel takes them.
#[derive(Default)]
struct Programs {
    views: Vec<u8>,
    words: Vec<u32>,
    /// Bytes of memory that the views need while they are made.
    scratch: usize,
}

/// Alignment of a view's scratch memory, in bytes.
const ALIGNMENT: usize = 16;

/// Words of an operation: its kind and five values.
const OPERATION: usize = 6;

impl Programs {
    fn new(programs: &ViewPrograms) -> Result<Self> {
        let mut all = Self::default();
        programs.views.iter().try_for_each(|view| all.push(view, programs.size))?;
        Ok(all)
    }

    fn push(&mut self, program: &ViewProgram, (height, width): (usize, usize)) -> Result<()> {
        let (first, last) = program.rows.reach();
        let view = View {
            pixels: program.start as u64,
            scratch: self.scratch as u64,
            stride: count(program.stride)?,
            first_row: count(first)?,
            rows: count(last - first)?,
            column_slots: count(program.columns.slots)?,
            row_slots: count(program.rows.slots)?,
            tables: count(self.words.len())?,
            operations: count(program.operations.len())?,
            reserved: 0,
        };
        self.views.extend(view.bytes());
        let blurs = program.operations.iter().any(|operation| matches!(operation, PixelOperation::Blur(_)));
        let bytes = ((last - first) * width * 3).max(if blurs { height * width * 3 * size_of::<f32>() } else { 0 });
        self.scratch += bytes.next_multiple_of(ALIGNMENT);
        for (low, length) in program.columns.bounds.iter().chain(program.rows.bounds) {
            self.words.extend([count(*low)?, count(*length)?]);
        }
        let weights = program.columns.weights.iter().chain(program.rows.weights);
        self.words.extend(weights.map(|weight| weight.cast_unsigned()));
        self.push_operations(&program.operations)
    }

    /// Adds operations, and then the tables that they point to.
    fn push_operations(&mut self, operations: &[PixelOperation]) -> Result<()> {
        let mut tables: Vec<u32> = Vec::new();
        let first_table = self.words.len() + operations.len() * OPERATION;
        for operation in operations {
            let place = first_table + tables.len();
            if let PixelOperation::Blur(weights) = operation {
                tables.extend(weights.iter().map(|weight| weight.to_bits()));
            }
            self.words.extend(encode(operation, place)?);
        }
        self.words.extend(tables);
        Ok(())
    }
}

/// Kind and values of an operation, whose table, if it has one, is at `table`.
fn encode(operation: &PixelOperation, table: usize) -> Result<[u32; OPERATION]> {
    let with = |kind, value| [kind, value, 0, 0, 0, 0];
    Ok(match operation {
        PixelOperation::HorizontalFlip => with(0, 0),
        PixelOperation::VerticalFlip => with(1, 0),
        PixelOperation::Brightness(factor) => with(2, factor.to_bits()),
        PixelOperation::Contrast(factor) => with(3, factor.to_bits()),
        PixelOperation::Saturation(factor) => with(4, factor.to_bits()),
        PixelOperation::Hue(steps) => with(5, u32::from(*steps)),
        PixelOperation::Grayscale => with(6, 0),
        PixelOperation::Solarize(threshold) => with(7, u32::from(*threshold)),
        PixelOperation::Mask(mask) => with(8, u32::from(*mask)),
        PixelOperation::Blur(weights) => [9, count(table)?, count(weights.len())?, 0, 0, 0],
        PixelOperation::Fill { corner, size, color: [red, green, blue] } => {
            let color = u32::from_le_bytes([*red, *green, *blue, 0]);
            [10, count(corner.0)?, count(corner.1)?, count(size.0)?, count(size.1)?, color]
        }
    })
}

/// Makes the views of each entry of `programs` from the originals: bytes `[views, height, width, 3]`. Everything goes
/// to the device in one upload.
///
/// # Errors
///
/// If there is not enough memory, or the driver fails.
pub fn make(originals: &[u8], programs: &[ViewPrograms], device: &Device) -> Result<Vec<Tensor>> {
    let laid_out = programs.iter().map(Programs::new).collect::<Result<Vec<_>>>()?;
    let words: Vec<Vec<u8>> =
        laid_out.iter().map(|laid_out| laid_out.words.iter().flat_map(|word| word.to_ne_bytes()).collect()).collect();
    let tables = laid_out.iter().zip(&words).flat_map(|(laid_out, words)| [&laid_out.views[..], &words[..]]);
    let parts: Vec<&[u8]> = std::iter::once(originals).chain(tables).collect();
    upload(&parts, device, |addresses| {
        let originals = addresses[0];
        let each = programs.iter().zip(&laid_out).zip(addresses[1..].chunks_exact(2));
        each.map(|((programs, laid_out), tables)| {
            launch_views(originals, programs, laid_out.scratch, [tables[0], tables[1]], device)
        })
        .collect()
    })
}

/// Threads of a block for views of `pixels` pixels.
fn threads(pixels: usize) -> u32 {
    if pixels >= 1 << 13 { 1024 } else { 256 }
}

fn launch_views(
    originals: u64,
    programs: &ViewPrograms,
    scratch: usize,
    [views, words]: [u64; 2],
    device: &Device,
) -> Result<Tensor> {
    let (height, width) = programs.size;
    let pixels = uninitialized(&[programs.views.len(), height, width, 3], DType::U8, device)?;
    let scratch = uninitialized(&[scratch.max(1)], DType::U8, device)?;
    let kernel = Kernel { module: Module::Views, name: "make_views", suffix: "" };
    let grid = Grid { blocks: (count(programs.views.len())?, 1), threads: (threads(height * width), 1) };
    let (from, to) = (address(&scratch)?, address(&pixels)?);
    let (height, width) = (count(height)?, count(width)?);
    launch!(device_of(&pixels)?, kernel, grid, originals, views, words, from, to, height, width)?;
    Ok(pixels)
}
