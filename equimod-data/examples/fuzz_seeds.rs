//! Writes complete and small inputs for every fuzz target, from which the fuzzer starts; `cargo xtask fuzz` runs it.
#![allow(missing_docs)]

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::Path;

use equimod_data::dataset::{IndexConfig, PackConfig, Storage, index_shards, pack};
use equimod_data::{FolderDataset, Policy, Size, view_rng};

/// Images of every format.
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/pillow/decode");
/// Images written by other programs.
const STRANGERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/strangers/images.tar.gz");
/// Tables written by pyarrow, in every codec, and shards.
const TABLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/strangers/tables");
const SHARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/strangers/shards");
/// PyTorch files.
const TORCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../equimod-core/tests/fixtures/torch");
/// Folders of the fuzz targets: those of this crate, and the one for PyTorch files.
const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");
const FUZZ_TORCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../equimod-core/fuzz");

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    torch_files()?;
    images()?;
    folder("parquet", &Path::new(FUZZ).join("seeds/parquet"))?;
    folder("parquet", Path::new(TABLES))?;
    folder("shards", Path::new(SHARDS))?;
    shards()?;
    packed()?;
    cifar()?;
    policies()
}

fn torch_files() -> Done {
    for file in fs::read_dir(TORCH)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if [".pth", ".pt", ".ckpt", ".tar"].iter().any(|ending| name.ends_with(ending)) {
            keep_in(FUZZ_TORCH, "torch_file", &name, &fs::read(&path)?)?;
        }
    }
    Ok(())
}

/// Copies every file of a folder.
fn folder(target: &str, folder: &Path) -> Done {
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        keep(target, &path.file_name().unwrap_or_default().to_string_lossy(), &fs::read(&path)?)?;
    }
    Ok(())
}

fn keep(target: &str, name: &str, bytes: &[u8]) -> Done {
    keep_in(FUZZ, target, name, bytes)
}

fn keep_in(fuzz: &str, target: &str, name: &str, bytes: &[u8]) -> Done {
    let folder = Path::new(fuzz).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

fn images() -> Done {
    for file in fs::read_dir(IMAGES)? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with("expected.png") && path.is_file() {
            keep("image", &name, &fs::read(&path)?)?;
        }
    }
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(STRANGERS)?)).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string().replace('/', "-");
        if !name.ends_with("expected.png") {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            keep("image", &name, &bytes)?;
        }
    }
    Ok(())
}

fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> Done {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    Ok(builder.append_data(&mut header, name, bytes)?)
}

fn shards() -> Done {
    let mut builder = tar::Builder::new(Vec::new());
    for name in ["gray.png", "420.jpg", "palette.bmp"] {
        append(&mut builder, name, &fs::read(Path::new(IMAGES).join(name))?)?;
        append(&mut builder, &format!("{}.cls", name.split('.').next().unwrap_or_default()), b"3")?;
    }
    let bytes = builder.into_inner()?;
    keep("shards", "three.tar", &bytes)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x.tar");
    fs::write(&path, [&bytes[..], &[0; 4096]].concat().split_at(4096).0)?;
    // The index of a file with the length that the target uses.
    if index_shards(&path, &IndexConfig::default(), &mut |_| {}).is_ok() {
        keep("shards_index", "one.json", &fs::read(folder.path().join("x.tar.index.json"))?)?;
    }
    keep(
        "shards_index",
        "two.json",
        br#"{"version":2,"classes":[],"shards":[{"file":"x.tar","bytes":4096,
        "keys":["a","b"],"offsets":[0,512],"lengths":[10,20],
        "labels":[0,null]}]}"#,
    )
}

fn packed() -> Done {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("class"))?;
    for name in ["gray.png", "420.jpg"] {
        fs::copy(Path::new(IMAGES).join(name), folder.path().join("class").join(name))?;
    }
    let source = FolderDataset::open(folder.path())?;
    for (name, storage) in [("raw", Storage::Raw), ("png", Storage::Png), ("jpeg", Storage::Jpeg { quality: 80 })] {
        let path = folder.path().join(name);
        pack(&source, &path, &PackConfig { resize: Some(6), storage, threads: 1 }, &mut |_| {})?;
        keep("packed", name, &fs::read(&path)?)?;
    }
    Ok(())
}

fn cifar() -> Done {
    let record: Vec<u8> = (0..3074).map(|k| (k % 10) as u8).collect();
    keep("cifar", "hundred.bin", &record)?;
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, "cifar-10-batches-bin/test_batch.bin", &record[..3073])?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &builder.into_inner()?)?;
    keep("cifar", "ten.tar.gz", &gzip.finish()?)
}

fn policies() -> Done {
    for (name, _) in Policy::LIST {
        let policy = Policy::built_in(name, 8)?;
        let params = policy.views[0].sample(Size::square(5), &mut view_rng(0, 0, 0, 0));
        keep("policy", name, &serde_json::to_vec(&(&policy, &params))?)?;
    }
    Ok(())
}
