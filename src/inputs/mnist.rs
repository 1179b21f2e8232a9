//! MNIST and data sets in its format, read with candle-datasets.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use candle_datasets::vision::mnist::load_dir;
use equimod_data::{Dataset, Error, Image, MemoryDataset, Size, Task};

/// File names of the images and labels of the training and test splits.
const IMAGES: [&str; 2] = ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"];
const LABELS: [&str; 2] = ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"];

/// Whether `folder` contains a data set in this format.
pub fn is_at(folder: &Path) -> bool {
    folder.join(IMAGES[0]).is_file()
}

/// Opens the training and test split; each has the task `label`.
///
/// # Errors
///
/// If a file is missing or damaged.
pub fn open(folder: &Path) -> anyhow::Result<(Arc<dyn Dataset>, Arc<dyn Dataset>)> {
    let name = folder.display().to_string();
    let wrong = |reason: String| Error::DataSet { name: name.clone(), reason };
    // candle-datasets trusts the sizes in the files.
    let sizes = IMAGES.map(|file| header(&folder.join(file), 4));
    let labels = LABELS.map(|file| header(&folder.join(file), 2));
    for (file, header) in IMAGES.iter().zip(&sizes).chain(LABELS.iter().zip(&labels)) {
        header.as_ref().map_err(|reason| wrong(format!("{file} {reason}")))?;
    }
    let read = load_dir(folder).map_err(|e| wrong(e.to_string()))?;
    let split = |part: usize, images: &Tensor, labels: &Tensor| -> anyhow::Result<Arc<dyn Dataset>> {
        let side = |k: usize| sizes[part].as_ref().map_or(0, |numbers| numbers[k] as usize);
        let size = Size { height: side(2), width: side(3) };
        // Values are bytes divided by 255, so that this restores them exactly.
        let bytes = (images * 255.0)?.round()?.to_dtype(DType::U8)?.flatten_all()?.to_vec1::<u8>()?;
        let image = |gray: &[u8]| Image::new(size, gray.iter().flat_map(|&value| [value; 3]).collect());
        let images = bytes.chunks(size.area().max(1)).map(image).collect::<equimod_data::Result<Vec<_>>>()?;
        let labels = labels.to_vec1::<u8>()?.into_iter().map(|label| Some(u32::from(label))).collect();
        let classes = (0..read.labels).map(|class| class.to_string()).collect();
        let task = Task { name: "label".into(), classes };
        Ok(Arc::new(MemoryDataset::new(&name, images)?.with_task(task, labels)?))
    };
    Ok((split(0, &read.train_images, &read.train_labels)?, split(1, &read.test_images, &read.test_labels)?))
}

/// The big-endian numbers at the start of an idx file, checked against the length of the file.
fn header(path: &Path, numbers: usize) -> Result<Vec<u32>, String> {
    let read = |e: std::io::Error| format!("cannot be read: {e}");
    let mut file = File::open(path).map_err(read)?;
    let mut bytes = vec![0; 4 * numbers];
    file.read_exact(&mut bytes).map_err(read)?;
    let values: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|number| u32::from_be_bytes(*number)).collect();
    let content = values[1..].iter().try_fold(1u64, |product, &number| product.checked_mul(number.into()));
    let length = content.and_then(|content| content.checked_add(bytes.len() as u64));
    match length == Some(file.metadata().map_err(read)?.len()) {
        true => Ok(values),
        false => Err("is not a complete idx file; download it again, and unpack it".into()),
    }
}
