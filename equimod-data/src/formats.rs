//! File formats of images: supported formats, and known formats that are not supported.

/// Extensions of supported image files, in lower case.
pub const EXTENSIONS: [&str; 16] = [
    "apng", "bmp", "dib", "gif", "jfi", "jfif", "jif", "jpe", "jpeg", "jpg", "pjp", "pjpeg", "png", "tif", "tiff",
    "webp",
];

/// Supported formats, for messages.
pub const READ: &str = "BMP, GIF, JPEG, PNG, TIFF, WebP";

/// Known formats that are not supported, with the extensions of their files.
const UNREAD: [(&str, &[&str]); 24] = [
    ("AVIF", &["avif", "avifs"]),
    ("HEIC", &["heic", "heif", "heics", "heifs", "hif"]),
    ("JPEG 2000", &["jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "jpm"]),
    ("JPEG XL", &["jxl"]),
    ("JPEG XR", &["jxr", "wdp", "hdp"]),
    ("JPEG-LS", &["jls"]),
    ("PPM", &["ppm", "pgm", "pbm", "pnm", "pam", "pfm"]),
    ("TGA", &["tga", "icb", "vda", "vst"]),
    ("ICO", &["ico", "cur", "icns"]),
    ("SVG", &["svg", "svgz"]),
    ("OpenEXR", &["exr"]),
    ("Radiance HDR", &["hdr", "rgbe"]),
    ("DDS", &["dds"]),
    ("QOI", &["qoi"]),
    ("PCX", &["pcx"]),
    ("SGI", &["sgi", "bw"]),
    ("XBM or XPM", &["xbm", "xpm"]),
    ("farbfeld", &["ff"]),
    ("Photoshop", &["psd", "psb"]),
    ("GIMP", &["xcf"]),
    ("DICOM", &["dcm", "dicom"]),
    ("FITS", &["fits", "fit"]),
    ("NIfTI", &["nii"]),
    ("camera raw", &["3fr", "arw", "cr2", "cr3", "crw", "dng", "nef", "nrw", "orf", "pef", "raf", "rw2", "srw"]),
];

/// Kind of a file, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Image in a supported format, with the format's name.
    Read(&'static str),
    /// Image in an unsupported format, with the format's name.
    Unread(&'static str),
    /// Not an image.
    Other,
}

/// Kind of a file with this extension, in upper or lower case.
pub fn of_extension(extension: &str) -> Kind {
    let extension = extension.to_lowercase();
    match extension.as_str() {
        "bmp" | "dib" => Kind::Read("BMP"),
        "gif" => Kind::Read("GIF"),
        "apng" | "png" => Kind::Read("PNG"),
        "tif" | "tiff" => Kind::Read("TIFF"),
        "webp" => Kind::Read("WebP"),
        _ if EXTENSIONS.contains(&extension.as_str()) => Kind::Read("JPEG"),
        _ => {
            let unread = UNREAD.iter().find(|(_, extensions)| extensions.contains(&extension.as_str()));
            unread.map_or(Kind::Other, |(format, _)| Kind::Unread(format))
        }
    }
}

/// Reason for rejecting a file in an unsupported format, as a sentence.
pub(crate) fn not_read(format: &str) -> String {
    format!("it is in the format {format}, which is not read; convert it to PNG or JPEG")
}

/// Description of bytes that are not in a supported format, as a sentence.
pub(crate) fn what_else(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "the file is empty".into();
    }
    if bytes.iter().all(|&byte| byte == 0) {
        return "the file holds zeros only".into();
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return "it is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`".into();
    }
    if let Some(format) = netpbm_or_codestream(bytes) {
        return not_read(format);
    }
    let Some(kind) = infer::get(bytes) else {
        return format!("its content is not an image in a format that is read ({READ})");
    };
    match kind.matcher_type() {
        infer::MatcherType::Image => not_read(name(kind.extension())),
        _ if kind.extension() == "html" => "it is a web page, not an image".into(),
        _ => format!("it is a file of the type {}, not an image", kind.mime_type()),
    }
}

/// Name of a format, by an extension.
fn name(extension: &'static str) -> &'static str {
    match of_extension(extension) {
        Kind::Unread(format) => format,
        _ => extension,
    }
}

/// Formats with too short a signature for a general list.
fn netpbm_or_codestream(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() => Some("PPM"),
        [0xFF, 0x4F, 0xFF, 0x51, ..] => Some("JPEG 2000"),
        [0xFF, 0x0A, ..] => Some("JPEG XL"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_those_of_formats() {
        for (extension, kind) in [
            ("JPG", Kind::Read("JPEG")),
            ("jfif", Kind::Read("JPEG")),
            ("tiff", Kind::Read("TIFF")),
            ("HEIC", Kind::Unread("HEIC")),
            ("pgm", Kind::Unread("PPM")),
            ("json", Kind::Other),
            ("", Kind::Other),
        ] {
            assert_eq!(of_extension(extension), kind, "{extension}");
        }
    }

    #[test]
    fn content_is_named_whatever_the_extension_says() {
        let avif = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf";
        let page = b"<!DOCTYPE html><html><head></head></html>";
        for (bytes, part) in [
            (&avif[..], "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
            (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 ", "JPEG 2000"),
            (b"P6\n1 1\n255\nabc", "PPM"),
            (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", "JPEG XL"),
            (&page[..], "web page"),
            (b"%PDF-1.4 ", "application/pdf"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
            (b"", "empty"),
            (&[0; 100], "zeros"),
            (b"no image", "BMP, GIF, JPEG"),
        ] {
            let text = what_else(bytes);
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
