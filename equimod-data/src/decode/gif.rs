//! First frame of a GIF file, decoded as Pillow's `convert("RGB")` does.

use gif::{ColorOutput, DecodeOptions, Decoder, MemoryLimit};

use super::{Decoded, check_size, finish};
use crate::image::{Image, MOST_MEMORY, Size};
use crate::reading::Background;

const NO_FRAME: &str = "it holds no frame";

/// Decodes the first frame onto the screen. The area around the frame has its transparent color or, without one, the
/// first color of the palette; a transparent color is replaced by the background, if there is one. A frame that extends beyond the screen enlarges it.
pub fn first_frame(bytes: &[u8], background: Background) -> Decoded<Image> {
    let (mut decoder, size) = open(bytes)?;
    let frame = decoder.current_frame_info().ok_or(NO_FRAME)?;
    let (left, top, width) = (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width));
    let transparent = frame.transparent;
    let around = transparent.unwrap_or(0);
    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(|e| e.to_string())?;
    let palette = decoder.palette().map_err(|e| e.to_string())?.as_chunks::<3>().0;
    let color = |index: u8| {
        let behind = background.0.filter(|_| transparent == Some(index));
        behind.unwrap_or_else(|| palette.get(usize::from(index)).copied().unwrap_or_default())
    };
    let mut pixels = color(around).repeat(size.area());
    for (row, line) in indices.chunks_exact(width.max(1)).enumerate() {
        let start = 3 * ((top + row) * size.width + left);
        let target = pixels[start..start + 3 * width].as_chunks_mut::<3>().0;
        target.iter_mut().zip(line).for_each(|(pixel, &index)| *pixel = color(index));
    }
    finish(size, pixels)
}

/// Size of the first frame's screen.
pub fn size(source: impl std::io::Read) -> Decoded<Size> {
    open(source).map(|(_, size)| size)
}

fn open<R: std::io::Read>(source: R) -> Decoded<(Decoder<R>, Size)> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(std::num::NonZeroU64::new(MOST_MEMORY).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let mut decoder = options.read_info(source).map_err(|e| e.to_string())?;
    let screen = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().map_err(|e| e.to_string())?.ok_or(NO_FRAME)?;
    let width = u32::from(screen.0).max(u32::from(frame.left) + u32::from(frame.width));
    let height = u32::from(screen.1).max(u32::from(frame.top) + u32::from(frame.height));
    check_size(width, height)?;
    Ok((decoder, Size { height: height as usize, width: width as usize }))
}
