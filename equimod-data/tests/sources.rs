//! Data sources: supported contents, and errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use equimod_data::dataset::{IndexConfig, PackConfig, Storage, index_shards, pack};
use equimod_data::{
    CifarDataset, Dataset, FolderDataset, Image, PackedDataset, ParquetDataset, ShardsDataset, Size, Split,
    Stl10Dataset, Stl10Split,
};

fn emoji() -> ParquetDataset {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets/emoji/twemoji-test.parquet");
    ParquetDataset::open(&path, None).unwrap()
}

fn test_image(height: usize, width: usize, salt: usize) -> Image {
    let pixels = (0..height * width * 3).map(|i| (i * 31 + salt * 97) as u8).collect();
    Image::new(Size { height, width }, pixels).unwrap()
}

/// Red, green and blue planes; column-major if `columns`.
fn planes(image: &Image, columns: bool) -> Vec<u8> {
    let Size { height, width } = image.size();
    let at = |y: usize, x: usize, c: usize| image.pixels()[(y * width + x) * 3 + c];
    let plane = |c: usize| {
        (0..height * width).map(move |p| if columns { (p % height, p / height, c) } else { (p / width, p % width, c) })
    };
    (0..3).flat_map(plane).map(|(y, x, c)| at(y, x, c)).collect()
}

fn message<T>(result: equimod_data::Result<T>) -> String {
    let text = result.err().expect("an error").to_string();
    assert!(!text.contains('\n') && text.len() < 400, "{text}");
    text
}

fn config(storage: Storage, resize: Option<usize>) -> PackConfig {
    PackConfig { resize, storage, threads: 3 }
}

#[test]
fn packed_files_hold_what_was_packed() {
    let folder = tempfile::tempdir().unwrap();
    let source = emoji();
    for storage in [Storage::Raw, Storage::Png, Storage::Jpeg { quality: 95 }] {
        let path = folder.path().join("emoji.equimod");
        let mut seen = 0;
        let summary = pack(&source, &path, &config(storage, None), &mut |done| seen = done).unwrap();
        assert_eq!((summary.images, seen, summary.left_out.len()), (source.len(), source.len(), 0));
        assert_eq!(summary.bytes, fs::metadata(&path).unwrap().len());
        assert!(PackedDataset::is_at(&path));
        let packed = PackedDataset::open(&path).unwrap();
        packed.verify().unwrap();
        assert_eq!(packed.fingerprint().unwrap(), summary.fingerprint);
        assert_eq!((packed.tasks(), packed.len()), (source.tasks(), source.len()));
        for index in (0..source.len()).step_by(50) {
            let (ours, theirs) = (packed.image(index).unwrap(), source.image(index).unwrap());
            match storage {
                Storage::Jpeg { .. } => assert_eq!(ours.size(), theirs.size()),
                _ => assert_eq!(ours, theirs),
            }
            assert_eq!(packed.key(index), source.key(index));
            assert_eq!(packed.size(index).unwrap(), theirs.size());
            for task in 0..source.tasks().len() {
                assert_eq!(packed.label(task, index), source.label(task, index));
            }
        }
        assert!(packed.image(source.len()).is_err());
    }
}

#[test]
fn packing_resizes_leaves_out_what_is_broken_and_is_the_same_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    for (k, (height, width)) in [(40, 60), (20, 10), (33, 33)].into_iter().enumerate() {
        fs::write(images.join(format!("{k}.png")), test_image(height, width, k).encode_png().unwrap()).unwrap();
    }
    fs::write(images.join("broken.jpg"), b"no image").unwrap();
    let source = FolderDataset::open(&images).unwrap();
    let path = folder.path().join("small.equimod");
    let mut files = Vec::new();
    for threads in [1, 2, 7] {
        let config = PackConfig { threads, ..config(Storage::Raw, Some(30)) };
        let summary = pack(&source, &path, &config, &mut |_| {}).unwrap();
        assert!(summary.left_out[0].0.ends_with("broken.jpg"), "{:?}", summary.left_out);
        files.push(fs::read(&path).unwrap());
    }
    assert!(files.iter().all(|file| *file == files[0]));
    let packed = PackedDataset::open(&path).unwrap();
    let sizes: Vec<(usize, usize)> = packed.sizes().unwrap().iter().map(|size| (size.height, size.width)).collect();
    // The image that is smaller than 30 pixels keeps its size.
    assert_eq!(sizes, [(30, 45), (20, 10), (30, 30)]);
    let only_broken = folder.path().join("only");
    fs::create_dir(&only_broken).unwrap();
    fs::write(only_broken.join("x.png"), b"no").unwrap();
    let refused = pack(&FolderDataset::open(&only_broken).unwrap(), &path, &config(Storage::Raw, None), &mut |_| {});
    assert!(message(refused).contains("none of its images"));
    assert_eq!(fs::read(&path).unwrap(), files[0], "a failed packing leaves the old file");
    // No temporary files are left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn damaged_packed_files_are_refused_or_caught_by_the_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.equimod");
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    fs::write(images.join("a.png"), test_image(3, 5, 1).encode_png().unwrap()).unwrap();
    pack(&FolderDataset::open(&images).unwrap(), &path, &config(Storage::Raw, None), &mut |_| {}).unwrap();
    let whole = fs::read(&path).unwrap();
    let look = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let Ok(data) = PackedDataset::open(&path) else { return true };
        // Whatever the content, reading must end in a value or an error.
        for index in 0..data.len().min(3) {
            let _ = (data.image(index), data.size(index), data.key(index), data.label(0, index));
        }
        data.verify().is_err()
    };
    assert!(!look(&whole));
    for cut in 0..whole.len() {
        assert!(look(&whole[..cut]), "cut at {cut}");
    }
    for place in 0..whole.len() {
        for change in [0x01, 0x80, 0xFF] {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            assert!(look(&bytes), "changed at {place}");
        }
    }
}

fn write_cifar10(folder: &Path) -> Vec<(u8, Image)> {
    let records: Vec<(u8, Image)> = (0..6).map(|k| ((k * 3 % 10) as u8, test_image(32, 32, k))).collect();
    fs::create_dir_all(folder).unwrap();
    let bytes = |record: &(u8, Image)| [vec![record.0], planes(&record.1, false)].concat();
    for (k, record) in records.iter().enumerate() {
        let name = if k < 5 { format!("data_batch_{}.bin", k + 1) } else { "test_batch.bin".into() };
        fs::write(folder.join(name), bytes(record)).unwrap();
    }
    records
}

#[test]
fn cifar_folders_and_archives() {
    let folder = tempfile::tempdir().unwrap();
    let ten = folder.path().join("cifar-10-batches-bin");
    let records = write_cifar10(&ten);
    let archive = folder.path().join("cifar-10-binary.tar.gz");
    let gzip = flate2::write::GzEncoder::new(fs::File::create(&archive).unwrap(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    builder.append_dir_all("cifar-10-batches-bin", &ten).unwrap();
    builder.into_inner().unwrap().finish().unwrap();
    for path in [&ten, &archive] {
        assert!(CifarDataset::is_at(path));
        let train = CifarDataset::open(path, Split::Train).unwrap();
        assert_eq!((train.len(), train.tasks()[0].classes[3].as_str()), (5, "cat"));
        for (k, (label, image)) in records[..5].iter().enumerate() {
            assert_eq!((&train.image(k).unwrap(), train.label(0, k)), (image, Some(u32::from(*label))));
        }
        assert_eq!(CifarDataset::open(path, Split::Test).unwrap().image(0).unwrap(), records[5].1);
    }
    let hundred = folder.path().join("cifar-100-binary");
    fs::create_dir(&hundred).unwrap();
    let record = [vec![7, 93], planes(&test_image(32, 32, 9), false)].concat();
    fs::write(hundred.join("train.bin"), &record).unwrap();
    fs::write(hundred.join("test.bin"), &record).unwrap();
    let data = CifarDataset::open(&hundred, Split::Train).unwrap();
    let names: Vec<&str> = data.tasks().iter().map(|task| task.name.as_str()).collect();
    assert_eq!((names, data.label(0, 0), data.label(1, 0)), (vec!["coarse_label", "fine_label"], Some(7), Some(93)));
    assert_eq!(data.image(0).unwrap(), test_image(32, 32, 9));

    fs::write(hundred.join("train.bin"), &record[1..]).unwrap();
    assert!(message(CifarDataset::open(&hundred, Split::Train)).contains("train.bin has 3073 bytes"));
    fs::write(ten.join("test_batch.bin"), [vec![10], vec![0; 3072]].concat()).unwrap();
    assert!(message(CifarDataset::open(&ten, Split::Test)).contains("record 0 has label 10"));
    fs::remove_file(ten.join("data_batch_3.bin")).unwrap();
    assert!(message(CifarDataset::open(&ten, Split::Train)).contains("data_batch_3.bin"));
    let pickled = folder.path().join("cifar-10-batches-py");
    fs::create_dir(&pickled).unwrap();
    fs::write(pickled.join("data_batch_1"), b"\x80\x02").unwrap();
    assert!(message(CifarDataset::open(&pickled, Split::Train)).contains("binary version"));
    fs::write(&archive, &fs::read(&archive).unwrap()[..100]).unwrap();
    assert!(message(CifarDataset::open(&archive, Split::Train)).contains("unpack"));
}

#[test]
fn stl10_runs_down_the_columns() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, images: &[usize]| {
        let bytes: Vec<u8> = images.iter().flat_map(|&salt| planes(&test_image(96, 96, salt), true)).collect();
        fs::write(folder.path().join(name), bytes).unwrap();
    };
    write("train_X.bin", &[1, 2]);
    write("test_X.bin", &[3]);
    write("unlabeled_X.bin", &[4, 5, 6]);
    fs::write(folder.path().join("train_y.bin"), [10, 1]).unwrap();
    fs::write(folder.path().join("test_y.bin"), [2]).unwrap();
    assert!(Stl10Dataset::is_at(folder.path()));
    let open = |split| Stl10Dataset::open(folder.path(), split);
    let both = open(Stl10Split::TrainAndUnlabeled).unwrap();
    assert_eq!(both.len(), 5);
    for (k, salt) in [1, 2, 4, 5, 6].into_iter().enumerate() {
        assert_eq!(both.image(k).unwrap(), test_image(96, 96, salt));
    }
    assert_eq!((both.label(0, 0), both.label(0, 1), both.label(0, 2)), (Some(9), Some(0), None));
    assert!(open(Stl10Split::Unlabeled).unwrap().tasks().is_empty());
    assert!(both.image(5).is_err());
    fs::write(folder.path().join("test_y.bin"), [11]).unwrap();
    assert!(message(open(Stl10Split::Test)).contains("labels from 1 to 10"));
    fs::write(folder.path().join("train_X.bin"), [0; 100]).unwrap();
    assert!(message(open(Stl10Split::Train)).contains("train_X.bin has 100 bytes"));
}

fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, name, bytes).unwrap();
}

/// A shard with samples `first` to `first + 2`; every second sample has a label.
fn shard(first: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for k in first..first + 3 {
        add(&mut builder, &format!("train/{k:05}.png"), &test_image(8 + k, 9, k).encode_png().unwrap());
        if k % 2 == 0 {
            add(&mut builder, &format!("train/{k:05}.cls"), format!("{k}\n").as_bytes());
        }
        add(&mut builder, &format!("train/{k:05}.json"), b"{}");
    }
    add(&mut builder, "note.cls", b"5");
    builder.into_inner().unwrap()
}

#[test]
fn shards_are_read_anywhere_once_indexed() {
    let folder = tempfile::tempdir().unwrap();
    for k in 0..3 {
        fs::write(folder.path().join(format!("set-{k:03}.tar")), shard(3 * k)).unwrap();
    }
    let pattern = folder.path().join("set-{001..002}.tar");
    for (location, first) in [(folder.path().to_owned(), 0), (pattern, 3), (folder.path().join("set-002.tar"), 6)] {
        assert!(ShardsDataset::is_at(&location));
        assert!(message(ShardsDataset::open(&location)).contains("equimod data index"));
        let indexed = index_shards(&location, &IndexConfig::default(), &mut |_| {}).unwrap();
        let (index, samples) = (indexed.index, indexed.samples);
        assert!(index.is_file() && samples == 9 - first);
        let data = ShardsDataset::open(&location).unwrap();
        assert_eq!(data.len(), samples);
        for k in (0..samples).rev() {
            let salt = first + k;
            assert_eq!(data.image(k).unwrap(), test_image(8 + salt, 9, salt));
            assert_eq!(data.label(0, k), (salt % 2 == 0).then_some(salt as u32));
            assert!(data.key(k).ends_with(&format!(":train/{salt:05}")), "{}", data.key(k));
        }
        assert!(data.image(samples).is_err());
    }
    fs::write(folder.path().join("set-001.tar"), shard(30)).unwrap();
    assert!(message(ShardsDataset::open(folder.path())).contains("changed since"));
    fs::write(folder.path().join("equimod-index.json"), b"{\"version\":1}").unwrap();
    assert!(message(ShardsDataset::open(folder.path())).contains("not an index"));
}

#[test]
fn hostile_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    let index = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        index_shards(&path, &IndexConfig::default(), &mut |_| {})
    };
    let image = test_image(4, 4, 0).encode_png().unwrap();
    let escaping = |name: &str| {
        // The builder rejects such a name, so that it is written over a valid one.
        let mut builder = tar::Builder::new(Vec::new());
        add(&mut builder, &"a".repeat(name.len()), &image);
        let mut bytes = builder.into_inner().unwrap();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let sum: u32 = bytes[..512]
            .iter()
            .enumerate()
            .map(|(k, &b)| if (148..156).contains(&k) { 32 } else { u32::from(b) })
            .sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    };
    for name in ["../x.png", "/etc/x.png", "a/../../x.png"] {
        assert!(message(index(&escaping(name))).contains("leads out of the folder"), "{name}");
    }
    let mut link = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    link.append_link(&mut header, "x.png", "/etc/passwd").unwrap();
    assert!(message(index(&link.into_inner().unwrap())).contains("is a link"));
    let mut wrong = tar::Builder::new(Vec::new());
    add(&mut wrong, "x.png", &image);
    add(&mut wrong, "x.cls", &[b'a'; 65]);
    assert!(message(index(&wrong.into_inner().unwrap())).contains("not a class"));
    let whole = shard(0);
    for cut in [1, 300, 512, 600, 700] {
        assert!(index(&whole[..cut]).is_err(), "cut at {cut}");
    }
    assert!(message(index(&[0; 1024])).contains("hold no images"));
    fs::write(folder.path().join("x.tar.gz"), b"\x1f\x8b").unwrap();
    assert!(
        message(index_shards(&folder.path().join("x.tar.gz"), &IndexConfig::default(), &mut |_| {})).contains("gzip")
    );
    assert!(
        message(index_shards(&folder.path().join("x-{5..2}.tar"), &IndexConfig::default(), &mut |_| {}))
            .contains("count up")
    );
}

#[test]
fn a_sample_is_its_image_whatever_stands_beside_it_and_its_class_may_be_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let (photo, mask) = (test_image(6, 5, 1), test_image(9, 9, 2));
    let mut builder = tar::Builder::new(Vec::new());
    for (key, class) in [("a/1", "zebra"), ("a/2", "ant")] {
        add(&mut builder, &format!("{key}.png"), &photo.encode_png().unwrap());
        add(&mut builder, &format!("{key}.mask.png"), &mask.encode_png().unwrap());
        add(&mut builder, &format!("{key}.cls"), class.as_bytes());
    }
    fs::write(folder.path().join("x.tar"), builder.into_inner().unwrap()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let index = elsewhere.path().join("x.index.json");
    let config = IndexConfig { out: Some(index.clone()), ..Default::default() };
    index_shards(&folder.path().join("x.tar"), &config, &mut |_| {}).unwrap();
    // Nothing is written next to the shard, and the index is a source.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let shards = ShardsDataset::open(&index).unwrap();
    assert_eq!((shards.len(), shards.image(1).unwrap()), (2, photo));
    assert_eq!(shards.tasks()[0].classes, ["ant", "zebra"]);
    assert_eq!((shards.label(0, 0), shards.label(0, 1)), (Some(1), Some(0)));
    let none = elsewhere.path().join("none.tar");
    assert!(message(index_shards(&none, &IndexConfig::default(), &mut |_| {})).contains("no such tar file"));
}

#[cfg(unix)]
#[test]
fn links_to_nowhere_and_hidden_files_do_no_harm() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.png"), test_image(4, 4, 0).encode_png().unwrap()).unwrap();
    fs::write(folder.path().join("._a.png"), b"a shadow").unwrap();
    symlink("nowhere", folder.path().join("notes.txt")).unwrap();
    symlink("nowhere", folder.path().join("b.png")).unwrap();
    symlink(folder.path(), folder.path().join("loop")).unwrap();
    let data = FolderDataset::open(folder.path()).unwrap();
    assert_eq!(data.len(), 2);
    assert!(message(data.image(1)).contains("b.png"));
}

#[test]
fn a_row_without_an_image_is_one_that_does_not_decode() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tables/null-picture.parquet");
    let table = ParquetDataset::open(&path, None).unwrap();
    assert_eq!(table.len(), 3);
    assert!(table.image(0).is_ok() && table.image(2).is_ok());
    assert!(message(table.image(1)).contains("row 1") && message(table.size(1)).contains("no bytes"));
}

#[test]
fn a_packed_file_whose_index_says_an_impossible_size_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.png"), test_image(3, 5, 1).encode_png().unwrap()).unwrap();
    let path = folder.path().join("x.equimod");
    let source = FolderDataset::open(folder.path()).unwrap();
    pack(&source, &path, &config(Storage::Png, None), &mut |_| {}).unwrap();
    let whole = fs::read(&path).unwrap();
    let trailer = whole.len() - 64;
    let index = u64::from_le_bytes(whole[trailer..trailer + 8].try_into().unwrap()) as usize;
    for size in [0u32, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[index + 12..index + 16].copy_from_slice(&size.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        assert!(message(PackedDataset::open(&path).unwrap().size(0)).contains("invalid size"));
    }
}

/// An image of one color: 62 kB that decode to half a gigabyte.
#[test]
fn a_bomb_of_one_bit_a_pixel_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 30_000, 17_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.write_header().unwrap().write_image_data(&vec![0; 3750 * 17_000]).unwrap();
    fs::write(folder.path().join("bomb.png"), &file).unwrap();
    let data = FolderDataset::open(folder.path()).unwrap();
    assert!(message(data.size(0)).contains("more than") && message(data.image(0)).contains("more than"));
}

#[test]
fn a_decompression_bomb_is_refused_before_it_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    // A PNG header that declares 30 000 × 30 000 pixels: 2.7 GB.
    let mut png = test_image(4, 4, 0).encode_png().unwrap();
    png[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    let sum = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    fs::write(folder.path().join("bomb.png"), &png).unwrap();
    let data = FolderDataset::open(folder.path()).unwrap();
    assert!(message(data.size(0)).contains("bomb.png"));
    assert!(message(data.image(0)).contains("bomb.png"));
}
