//! Images and folders made by other programs (`tests/fixtures/strangers/make_images.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use equimod_data::dataset::PassedOver;
use equimod_data::{Background, Dataset, FolderDataset, Image, ReadOptions, Size};

type Files = BTreeMap<String, Vec<u8>>;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/strangers")
}

fn unpacked(archive: &Path) -> Files {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(archive).unwrap()));
    let file = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    };
    archive.entries().unwrap().map(file).collect()
}

/// The committed files and, if there is a Python with Pillow, the files that it generates here.
fn every_set() -> Vec<Files> {
    let mut sets = vec![unpacked(&fixtures().join("images.tar.gz"))];
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("images.tar.gz");
    let made = |python: &str| {
        let mut command = Command::new(python);
        let done = command.arg(fixtures().join("make_images.py")).arg(&archive).output();
        done.is_ok_and(|output| output.status.success())
    };
    let named = std::env::var("EQUIMOD_PYTHON").ok();
    match named.as_deref().into_iter().chain(["python3", "/usr/bin/python3"]).any(made) {
        true => sets.push(unpacked(&archive)),
        false => eprintln!("no Python with Pillow: only the committed images are looked at"),
    }
    sets
}

/// The images of a group, each with its name and the expected result.
fn cases<'a>(files: &'a Files, group: &str) -> Vec<(&'a str, &'a [u8], Image)> {
    let case = |(name, bytes): (&'a String, &'a Vec<u8>)| {
        let name = name.strip_prefix(group)?;
        let expected = files.get(&format!("{group}{name}.expected.png"))?;
        Some((name, bytes.as_slice(), Image::decode(expected, name).unwrap()))
    };
    files.iter().filter_map(case).collect()
}

/// Largest difference between values of two images.
fn off(got: &Image, want: &Image, what: &str) -> u8 {
    assert_eq!(got.size(), want.size(), "{what}");
    got.pixels().iter().zip(want.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn gif_and_tiff_enter_as_pillow_gives_them() {
    for files in every_set() {
        let cases = cases(&files, "decode/");
        assert!(cases.len() >= 20, "{}", cases.len());
        for (name, bytes, want) in cases {
            // Pillow rounds the product of ink and black to the nearest value, the decoder down.
            let allowed = if name.starts_with("cmyk") { 1 } else { 0 };
            let got = Image::decode(bytes, name).unwrap();
            let off = off(&got, &want, name);
            assert!(off <= allowed, "{name}: off by {off}");
            assert_eq!(Image::decode_size(bytes, name).unwrap(), want.size(), "{name}");
            for cut in 0..bytes.len() - 1 {
                // The remaining bytes give a value or an error.
                let _ = Image::decode(&bytes[..cut], name);
            }
        }
    }
}

#[test]
fn tiff_files_of_kinds_that_are_not_read_are_named() {
    for files in every_set() {
        let unread: Vec<_> = files.iter().filter(|(name, _)| name.starts_with("unread/")).collect();
        assert_eq!(unread.len(), 3);
        for (name, bytes) in unread {
            let message = Image::decode(bytes, name).unwrap_err().to_string();
            assert!(
                message.contains("a TIFF of a kind that is not read") && message.contains("convert it to PNG"),
                "{message}"
            );
        }
    }
}

const ORIENTED: ReadOptions = ReadOptions { apply_orientation: true, background: Background(None) };

#[test]
fn every_orientation_is_applied_in_every_format() {
    for files in every_set() {
        let cases = cases(&files, "orientation/");
        assert_eq!(cases.len(), 8 * 7);
        for (name, bytes, want) in cases {
            // Lossy decoders may round differently from libjpeg-turbo and libwebp.
            let allowed = if name.contains("lossy") || name.starts_with("jpeg") { 3 } else { 0 };
            let off = off(&Image::decode_with(bytes, name, ORIENTED).unwrap(), &want, name);
            assert!(off <= allowed, "{name}: off by {off}");
            assert_eq!(Image::decode(bytes, name).unwrap().size(), Size { height: 8, width: 12 }, "{name}");
        }
    }
}

#[test]
fn tiny_jpegs_differ_from_libjpegs_where_chroma_is_subsampled_and_narrow() {
    for files in every_set() {
        let cases = cases(&files, "tiny/");
        assert_eq!(cases.len(), 8 * 3);
        for (name, bytes, want) in cases {
            // libjpeg repeats up to two columns of chroma, the decoder here interpolates them.
            let repeated = want.size().width <= 4 && !name.ends_with("444.jpg");
            let off = off(&Image::decode(bytes, name).unwrap(), &want, name);
            assert!(off <= if repeated { 81 } else { 14 }, "{name}: off by {off}");
        }
    }
}

fn committed(name: &str) -> Vec<u8> {
    unpacked(&fixtures().join("images.tar.gz")).remove(name).unwrap()
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

#[test]
fn jpegs_of_kinds_that_are_not_read_are_named() {
    let whole = committed("restarts.jpg");
    let frame = find(&whole, &[0xFF, 0xC0]);
    for (marker, bits, part) in [
        (0xC9, 8, "arithmetic coding"),
        (0xCA, 8, "arithmetic coding"),
        (0xC3, 8, "lossless JPEG"),
        (0xC5, 8, "hierarchical JPEG"),
        (0xC1, 12, "12 bits per sample"),
        (0xC0, 12, "12 bits per sample"),
    ] {
        let mut bytes = whole.clone();
        (bytes[frame + 1], bytes[frame + 4]) = (marker, bits);
        for error in [Image::decode(&bytes, "x.jpg").map(|_| ()), Image::decode_size(&bytes, "x.jpg").map(|_| ())] {
            let Err(error) = error else { continue };
            assert!(error.to_string().contains(part), "{part} is not in {error}");
        }
        assert!(Image::decode(&bytes, "x.jpg").is_err(), "{part}");
    }
    let message = Image::decode(&committed("arithmetic.jpg"), "x.jpg").unwrap_err().to_string();
    assert!(message.contains("it is a JPEG with arithmetic coding, which is not read"), "{message}");
}

#[test]
fn jpegs_that_decode_with_errors_are_doubted() {
    let whole = committed("restarts.jpg");
    let second = find(&whole, &[0xFF, 0xD1]);
    let doubts = |bytes: &[u8]| {
        Image::decode(bytes, "x.jpg").unwrap();
        let examined = Image::examine(bytes).unwrap();
        assert_eq!(examined.format, "JPEG");
        examined.doubts.join("; ")
    };
    assert_eq!(doubts(&whole), "");
    let table = find(&whole, &[0xFF, 0xDB]);
    let extraneous = [&whole[..table], &[1, 2, 3, 4, 5], &whole[table..]].concat();
    assert!(doubts(&extraneous).contains("5 extraneous bytes"), "{}", doubts(&extraneous));
    let mut swapped = whole.clone();
    swapped[second + 1] = 0xD5;
    assert!(doubts(&swapped).contains("2 restart markers out of order"), "{}", doubts(&swapped));
    // Before the end marker, at the end of the compressed data, and in the middle of the data.
    let end = whole.len() - 2;
    let extraneous = [&whole[..end], &[7; 4], &whole[end..]].concat();
    assert!(doubts(&extraneous).contains("4 extraneous bytes after"), "{}", doubts(&extraneous));
    let missing = [&whole[..second - 3], &whole[second..]].concat();
    assert!(doubts(&missing).contains("missing or damaged"), "{}", doubts(&missing));
    for (name, bytes, _) in cases(&unpacked(&fixtures().join("images.tar.gz")), "tiny/") {
        assert_eq!(doubts(bytes), "", "{name}");
    }
}

fn image(salt: usize) -> Vec<u8> {
    let pixels = (0..12).map(|i| (i * 31 + salt * 97) as u8).collect();
    Image::new(Size::square(2), pixels).unwrap().encode_png().unwrap()
}

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (salt, file) in files.iter().enumerate() {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, image(salt)).unwrap();
    }
    folder
}

fn keys(data: &FolderDataset, root: &Path) -> Vec<String> {
    let below = |key: String| Path::new(&key).strip_prefix(root).unwrap().display().to_string();
    (0..data.len()).map(|index| below(data.key(index))).collect()
}

#[test]
fn what_other_programs_leave_behind_is_passed_over() {
    let folder = folder(&[
        "a/1.png",
        "a/.ipynb_checkpoints/1-checkpoint.png",
        "a/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
        "a/._1.png",
        "a/Thumbs.db",
        "b/2.png",
        "b/.2.png.swp.png",
        ".ipynb_checkpoints/3.png",
        "__MACOSX/a/._1.png",
        ".git/4.png",
        "desktop.ini",
        "labels.csv",
        "README",
    ]);
    let plain = self::folder(&["a/1.png", "b/2.png"]);
    fs::write(plain.path().join("b/2.png"), image(5)).unwrap();
    let (data, same) = (FolderDataset::open(folder.path()).unwrap(), FolderDataset::open(plain.path()).unwrap());
    assert_eq!(keys(&data, folder.path()), ["a/1.png", "b/2.png"]);
    assert_eq!(data.tasks()[0].classes, ["a", "b"]);
    // The fingerprint depends on names and lengths only, as before files were ignored.
    assert_eq!(data.fingerprint().unwrap(), same.fingerprint().unwrap());
    let PassedOver { leftovers, others, unopened } = data.passed_over().unwrap().clone();
    assert_eq!(leftovers.values().sum::<usize>(), 9);
    assert_eq!(others, [("csv".to_owned(), 1), (String::new(), 1)].into());
    assert!(unopened.is_empty());
    // A hidden folder can be named explicitly.
    assert_eq!(FolderDataset::open(&folder.path().join(".git")).unwrap().len(), 1);
}

#[test]
fn a_fingerprint_stays_what_it_was() {
    let folder = folder(&["b/2.png"]);
    fs::create_dir(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/1.jpg"), [0; 3]).unwrap();
    fs::write(folder.path().join("b/2.png"), [0; 300]).unwrap();
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for (path, length) in [("a/1.jpg", 3u64), ("b/2.png", 300)] {
        hash.update(path);
        hash.update([0]);
        hash.update(length.to_le_bytes());
    }
    let want: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(FolderDataset::open(folder.path()).unwrap().fingerprint().unwrap(), want);
}

#[test]
fn formats_are_reported_by_extension_and_what_is_not_read_fails_by_name() {
    let folder = folder(&["a/1.JPE", "a/2.jfif", "a/3.heic", "b/4.avif", "b/5.ppm", "c/6.tiff", "c/7.gif"]);
    let data = FolderDataset::open(folder.path()).unwrap();
    assert_eq!((data.len(), data.tasks()[0].classes.len()), (7, 3));
    assert_eq!(data.unread(), [(2, "HEIC"), (3, "AVIF"), (4, "PPM")].into());
    for index in 0..data.len() {
        // All files contain a PNG.
        assert_eq!(data.image(index).is_ok(), !data.unread().contains_key(&index));
        assert_eq!(data.size(index).is_ok(), !data.unread().contains_key(&index));
    }
    let message = data.image(3).unwrap_err().to_string();
    assert!(message.contains("4.avif") && message.contains("AVIF, which is not read"), "{message}");
    let folder = self::folder(&["a/1.heic", "a/2.heic", "b/3.avif", "notes.txt"]);
    let message = FolderDataset::open(folder.path()).err().unwrap().to_string();
    for part in ["no images in a format that is read", "2 in the format HEIC", "1 in the format AVIF", "1 .txt"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
}

#[test]
fn content_that_is_no_image_is_named() {
    let folder = folder(&["a/0.jpg"]);
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join("a").join(name), bytes).unwrap();
    write("1.jpg", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf");
    write("2.jpg", b"<!DOCTYPE html><html></html>");
    write("3.jpg", b"");
    let data = FolderDataset::open(folder.path()).unwrap();
    for (index, part) in [(1, "AVIF"), (2, "web page"), (3, "empty")] {
        for error in [data.image(index).err().unwrap(), data.size(index).err().unwrap()] {
            assert!(error.to_string().contains(part), "{part} is not in {error}");
        }
    }
}

#[cfg(unix)]
#[test]
fn links_into_themselves_end_nothing() {
    use std::os::unix::fs::symlink;
    let folder = folder(&["a/1.png", "b/2.png"]);
    let path = |name: &str| folder.path().join(name);
    symlink("self.png", path("a/self.png")).unwrap();
    symlink("self", path("b/self")).unwrap();
    symlink("nowhere.png", path("b/lost.png")).unwrap();
    symlink(folder.path(), path("b/up")).unwrap();
    let data = FolderDataset::open(folder.path()).unwrap();
    assert_eq!(keys(&data, folder.path()), ["a/1.png", "a/self.png", "b/2.png", "b/lost.png"]);
    let failed: Vec<usize> = (0..4).filter(|&index| data.image(index).is_err()).collect();
    assert_eq!(failed, [1, 3]);
    let unopened = &data.passed_over().unwrap().unopened;
    let names: Vec<String> = unopened.iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(names, ["b/self", "b/up"]);
    assert!(unopened[1].1.contains("a folder around it"), "{unopened:?}");
}
