//! MNIST and sets in its format, by way of candle-datasets.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use candle_datasets::vision::mnist::load_dir;
use equimod_data::{Dataset, Error, Image, MemoryDataset, Size, Task};

/// The pictures of each split, and the length of what stands before them.
const PICTURES: [&str; 2] = ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"];
const LABELS: [&str; 2] = ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"];

/// Whether a folder holds such a set.
pub fn is_at(folder: &Path) -> bool {
    folder.join(PICTURES[0]).is_file()
}

/// Training and test pictures with the labels `label`.
pub fn open(folder: &Path) -> anyhow::Result<(Arc<dyn Dataset>, Arc<dyn Dataset>)> {
    let name = folder.display().to_string();
    let wrong = |reason: String| Error::DataSet { name: name.clone(), reason };
    // candle-datasets believes what the files say of their length.
    let sizes = PICTURES.map(|file| header(&folder.join(file), 4));
    let labels = LABELS.map(|file| header(&folder.join(file), 2));
    for (file, header) in PICTURES.iter().zip(&sizes).chain(LABELS.iter().zip(&labels)) {
        header.as_ref().map_err(|reason| wrong(format!("{file} {reason}")))?;
    }
    let read = load_dir(folder).map_err(|e| wrong(e.to_string()))?;
    let split = |part: usize, pictures: &Tensor, labels: &Tensor| -> anyhow::Result<Arc<dyn Dataset>> {
        let side = |k: usize| sizes[part].as_ref().map_or(0, |numbers| numbers[k] as usize);
        let size = Size { height: side(2), width: side(3) };
        // Values are bytes over 255: exact on the way back.
        let bytes = (pictures * 255.0)?.round()?.to_dtype(DType::U8)?.flatten_all()?.to_vec1::<u8>()?;
        let picture = |grey: &[u8]| Image::new(size, grey.iter().flat_map(|&value| [value; 3]).collect());
        let pictures = bytes.chunks(size.area().max(1)).map(picture).collect::<equimod_data::Result<Vec<_>>>()?;
        let labels = labels.to_vec1::<u8>()?.into_iter().map(|label| Some(u32::from(label))).collect();
        let classes = (0..read.labels).map(|class| class.to_string()).collect();
        let task = Task { name: "label".into(), classes };
        Ok(Arc::new(MemoryDataset::new(&name, pictures)?.with_task(task, labels)?))
    };
    Ok((split(0, &read.train_images, &read.train_labels)?, split(1, &read.test_images, &read.test_labels)?))
}

/// The big-endian numbers at the beginning of an idx file, which must be as long as they say.
fn header(path: &Path, numbers: usize) -> Result<Vec<u32>, String> {
    let read = |e: std::io::Error| format!("cannot be read ({e})");
    let mut file = File::open(path).map_err(read)?;
    let mut bytes = vec![0; 4 * numbers];
    file.read_exact(&mut bytes).map_err(read)?;
    let found: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|number| u32::from_be_bytes(*number)).collect();
    let content = found[1..].iter().try_fold(1u64, |product, &number| product.checked_mul(number.into()));
    let length = content.and_then(|content| content.checked_add(bytes.len() as u64));
    match length == Some(file.metadata().map_err(read)?.len()) {
        true => Ok(found),
        false => Err("is not an idx file of the length that it says; fetch it again, and unpack it".into()),
    }
}
