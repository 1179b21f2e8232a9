//! BMP, GIF, JPEG, PNG, TIFF and WebP files.
#![no_main]

use equimod_data::Image;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let plain = Image::decode(bytes, "fuzz");
    let _ = Image::decode_oriented(bytes, "fuzz");
    let _ = Image::examine(bytes);
    if let (Ok(image), Ok(size)) = (&plain, Image::decode_size(bytes, "fuzz")) {
        assert_eq!(image.size(), size);
    }
});
