//! Tables of every encoding, intact and damaged, in a separate process whose memory allocations are counted.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::panic;
use std::path::Path;
use std::sync::{Arc, Mutex};

use equimod_data::{Dataset, ParquetDataset};
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Locked by tests that measure memory or allocate much, because the counter covers all tests.
static MEASURED: Mutex<()> = Mutex::new(());

const ROWS: usize = 40;
/// Upper limit of the memory for the largest table here, however it is damaged.
const MOST: usize = 4 << 20;
/// Largest counts: 2³¹ − 1 with and without a sign (zigzag encoding).
const COUNTS: [[u8; 5]; 2] = [[0xfe, 0xff, 0xff, 0xff, 0x0f], [0xff, 0xff, 0xff, 0xff, 0x07]];

fn name(row: usize) -> String {
    format!("a name that begins as others do, {}", row / 2)
}

/// All supported codecs.
fn codecs() -> [Compression; 7] {
    use Compression::{BROTLI, GZIP, LZ4, LZ4_RAW, SNAPPY, UNCOMPRESSED, ZSTD};
    [UNCOMPRESSED, SNAPPY, GZIP(Default::default()), BROTLI(Default::default()), LZ4, LZ4_RAW, ZSTD(Default::default())]
}

fn table(version: WriterVersion, encodings: Option<[Encoding; 3]>) -> Vec<u8> {
    packed(version, encodings, Compression::UNCOMPRESSED)
}

/// A table of images (arbitrary bytes), labels and names; every third row has neither label nor name.
fn packed(version: WriterVersion, encodings: Option<[Encoding; 3]>, codec: Compression) -> Vec<u8> {
    let schema = "message table { required binary image; optional int64 label; optional binary name (UTF8); }";
    let features = r#"{"info": {"features": {"label": {"names": ["a", "b", "c"]}}}}"#;
    let mut properties = WriterProperties::builder()
        .set_writer_version(version)
        .set_compression(codec)
        .set_dictionary_enabled(encodings.is_none())
        .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".into(), Some(features.into()))]));
    for (column, encoding) in ["image", "label", "name"].into_iter().zip(encodings.into_iter().flatten()) {
        properties = properties.set_column_encoding(ColumnPath::from(column), encoding);
    }
    let mut bytes = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let present: Vec<i16> = (0..ROWS).map(|row| i16::from(row % 3 != 2)).collect();
    let rows = || (0..ROWS).filter(|row| row % 3 != 2);

    let mut column = group.next_column().unwrap().unwrap();
    let images: Vec<ByteArray> = (0..ROWS).map(|row| vec![row as u8; 5 + row].into()).collect();
    column.typed::<ByteArrayType>().write_batch(&images, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let labels: Vec<i64> = rows().map(|row| row as i64 % 3).collect();
    column.typed::<Int64Type>().write_batch(&labels, Some(&present), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let names: Vec<ByteArray> = rows().map(|row| name(row).into_bytes().into()).collect();
    column.typed::<ByteArrayType>().write_batch(&names, Some(&present), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

fn tables() -> Vec<(String, Vec<u8>)> {
    let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
    let encodings = [
        None,
        Some([Encoding::PLAIN; 3]),
        Some([Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BINARY_PACKED, Encoding::DELTA_LENGTH_BYTE_ARRAY]),
        Some([Encoding::DELTA_BYTE_ARRAY, Encoding::DELTA_BINARY_PACKED, Encoding::DELTA_BYTE_ARRAY]),
    ];
    let each = versions.into_iter().flat_map(|version| encodings.map(|encodings| (version, encodings)));
    let plain = each.map(|(version, encodings)| (format!("{version:?}, {encodings:?}"), table(version, encodings)));
    plain.chain(codecs()[1..].iter().map(|&codec| (format!("{codec}"), packed(versions[0], None, codec)))).collect()
}

fn open(bytes: Vec<u8>) -> equimod_data::Result<ParquetDataset> {
    ParquetDataset::from_bytes("table", bytes.into(), None)
}

#[test]
fn tables_of_every_encoding_are_read() {
    for (which, bytes) in tables() {
        let table = open(bytes).unwrap_or_else(|e| panic!("{which}: {e}"));
        assert_eq!(table.len(), ROWS, "{which}");
        for row in 0..ROWS {
            let present = row % 3 != 2;
            assert_eq!(table.label(0, row), present.then_some(row as u32 % 3), "{which}, row {row}");
            assert_eq!(table.text("name", row), present.then(|| name(row)).as_deref(), "{which}, row {row}");
        }
    }
}

#[test]
fn tables_of_every_codec_are_read_with_levels_beside_packed_values() {
    for codec in codecs() {
        let table = open(packed(WriterVersion::PARQUET_2_0, Some([Encoding::PLAIN; 3]), codec)).unwrap();
        let names: Vec<Option<&str>> = (0..ROWS).map(|row| table.text("name", row)).collect();
        let want = |row: usize| (row % 3 != 2).then(|| name(row));
        assert!(names.into_iter().enumerate().all(|(row, name)| name == want(row).as_deref()), "{codec}");
    }
}

/// A table of one image of 8 MB of zeros, and the encoded size that its page declares.
fn large(codec: Compression) -> (Vec<u8>, [u8; 4]) {
    const BYTES: usize = 8_000_000;
    let schema = Arc::new(parse_message_type("message table { required binary image; }").unwrap());
    let properties = WriterProperties::builder().set_compression(codec).set_dictionary_enabled(false);
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[vec![0; BYTES].into()], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    (bytes, count(BYTES + 4))
}

/// A zigzag-encoded number of 21 to 27 bits, with seven bits per byte.
fn count(number: usize) -> [u8; 4] {
    let number = 2 * number;
    assert!((1 << 21..1 << 28).contains(&number));
    [0, 7, 14, 21].map(|shift| (number >> shift) as u8 & 0x7f | if shift < 21 { 0x80 } else { 0 })
}

#[test]
fn a_page_that_claims_other_bytes_than_it_holds_is_refused_before_there_is_room_for_them() {
    let _alone = MEASURED.lock();
    for codec in &codecs()[1..] {
        let (bytes, claim) = large(*codec);
        let table = open(bytes.clone()).unwrap();
        assert_eq!(table.len(), 1);
        drop(table);
        let place = bytes.windows(4).position(|four| four == claim).unwrap();
        // A larger and a smaller size than the actual one: the parquet crate allocates the larger one, and decompresses
        // all data of some codecs for both.
        for other in [130_000_000, 5_000_000] {
            let mut damaged = bytes.clone();
            damaged[place..place + 4].copy_from_slice(&count(other));
            MEMORY.reset_peak_usage();
            let before = MEMORY.current_usage();
            let text = open(damaged).err().map(|error| error.to_string());
            let asked = MEMORY.peak_usage().saturating_sub(before);
            let unbounded = matches!(codec, Compression::GZIP(_) | Compression::BROTLI(_));
            let foreseen = other > 8_000_000 || unbounded;
            let refused = text.as_ref().is_some_and(|text| !foreseen || text.contains("image: a page claims"));
            assert!(refused, "{codec}, {other}: {text:?}");
            // Brotli's decoder allocates the window that the stream declares: 4 MiB with the settings of the crate's
            // writer here.
            let window = if matches!(codec, Compression::BROTLI(_)) { 1 << 22 } else { 0 };
            let most = if foreseen { MOST + window } else { other + MOST };
            assert!(asked < most, "{codec}, {other}: {asked} bytes");
        }
    }
}

#[test]
fn a_codec_that_is_not_read_is_named() {
    let mut bytes = table(WriterVersion::PARQUET_1_0, None);
    // In the footer, the codec follows the column's path.
    let place = bytes.windows(7).rposition(|part| part == b"\x05image\x15").unwrap() + 7;
    assert_eq!(bytes[place], 0);
    bytes[place] = 2 * 3;
    let text = open(bytes).err().unwrap().to_string();
    assert!(text.contains("column image is compressed with LZO"), "{text}");
}

/// The bytes with a number replaced by a count of five bytes, and an updated length of the footer.
fn damaged(bytes: &[u8], place: usize, count: [u8; 5]) -> Vec<u8> {
    let mut damaged = [&bytes[..place], &count, &bytes[place + 1..]].concat();
    let end = bytes.len() - 8;
    let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
    if (end - length as usize..end).contains(&place) {
        let end = damaged.len() - 8;
        damaged[end..end + 4].copy_from_slice(&(length + 4).to_le_bytes());
    }
    damaged
}

#[test]
fn a_damaged_file_is_an_error_or_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.parquet");
    let whole = table(WriterVersion::PARQUET_1_0, None);
    let (mut tried, mut refused, mut read) = (0, 0, 0);
    for place in (0..whole.len()).step_by(3) {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << bit;
            fs::write(&path, bytes).unwrap();
            tried += 1;
            match ParquetDataset::open(&path, None) {
                Ok(_) => read += 1,
                Err(error) => refused += usize::from(error.to_string().contains("table.parquet")),
            }
        }
    }
    assert_eq!(refused + read, tried);
    assert!(refused > 1000, "{refused} refused, {read} read");
}

#[test]
fn a_damaged_count_asks_for_no_more_memory_than_there_are_bytes_for() {
    let _alone = MEASURED.lock();
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/parquet/plain.parquet");
    let hook = panic::take_hook();
    // Panics of the parquet crate become errors.
    panic::set_hook(Box::new(|_| {}));
    let mut worst = (0, String::new());
    for (which, bytes) in tables().into_iter().chain([("images".into(), fs::read(seed).unwrap())]) {
        for (place, count) in (0..bytes.len()).flat_map(|place| COUNTS.map(|count| (place, count))) {
            let bytes = damaged(&bytes, place, count);
            MEMORY.reset_peak_usage();
            let before = MEMORY.current_usage();
            drop(open(bytes));
            let asked = MEMORY.peak_usage().saturating_sub(before);
            worst = worst.max((asked, format!("{which}, byte {place}")));
        }
    }
    panic::set_hook(hook);
    assert!(worst.0 < MOST, "{} bytes: {}", worst.0, worst.1);
}
