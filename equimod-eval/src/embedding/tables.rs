//! Tables of features: csv, parquet, npy.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use super::{EmbeddingTable, table_error};
use crate::Result;

/// Rows of a row group of a parquet file.
const GROUP: usize = 65_536;

impl EmbeddingTable {
    /// Columns `split`, `key`, one for each task and, if `with_features`, one for each feature.
    pub(super) fn csv(&self, with_features: bool) -> Result<Vec<u8>> {
        let columns = if with_features { self.features.columns() } else { 0 };
        let mut table = csv::Writer::from_writer(Vec::new());
        let mut line = vec!["split".to_owned(), "key".to_owned()];
        line.extend(self.columns.iter().map(|column| column.task.clone()));
        line.extend((0..columns).map(feature_name));
        table.write_record(&line).map_err(table_error)?;
        for row in 0..self.rows() {
            line.clear();
            line.extend([self.splits[row].clone(), self.keys[row].clone()]);
            line.extend(self.columns.iter().map(|column| column.class(row).to_owned()));
            // The shortest text that parses to the same f32.
            line.extend(self.features.row(row)[..columns].iter().map(f32::to_string));
            table.write_record(&line).map_err(table_error)?;
        }
        table.into_inner().map_err(table_error)
    }

    /// Features `[images, features]` in f32.
    pub(super) fn npy(&self) -> Result<Vec<u8>> {
        let shape = (self.features.rows(), self.features.columns());
        let features = Tensor::from_slice(self.features.values(), shape, &Device::Cpu)?;
        // `write_npy` takes a path only.
        let file = tempfile::NamedTempFile::new().map_err(table_error)?;
        features.write_npy(file.path())?;
        std::fs::read(file.path()).map_err(table_error)
    }

    /// Text columns `split`, `key` and one for each task, and a float column for each feature.
    pub(super) fn parquet(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let mut file =
            SerializedFileWriter::new(&mut bytes, Arc::new(self.schema()?), properties).map_err(table_error)?;
        for start in (0..self.rows()).step_by(GROUP) {
            let rows = start..(start + GROUP).min(self.rows());
            let mut group = file.next_row_group().map_err(table_error)?;
            texts(&mut group, rows.clone().map(|row| self.splits[row].as_str()))?;
            texts(&mut group, rows.clone().map(|row| self.keys[row].as_str()))?;
            for column in &self.columns {
                texts(&mut group, rows.clone().map(|row| column.class(row)))?;
            }
            for column in 0..self.features.columns() {
                let values: Vec<f32> = rows.clone().map(|row| self.features.row(row)[column]).collect();
                let mut writer = group.next_column().map_err(table_error)?.ok_or_else(|| table_error("no column"))?;
                writer.typed::<FloatType>().write_batch(&values, None, None).map_err(table_error)?;
                writer.close().map_err(table_error)?;
            }
            group.close().map_err(table_error)?;
        }
        file.close().map_err(table_error)?;
        Ok(bytes)
    }

    fn schema(&self) -> Result<Type> {
        let text = |name: &str| {
            let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY);
            column.with_logical_type(Some(LogicalType::String)).with_repetition(Repetition::REQUIRED).build()
        };
        let number = |column: usize| {
            let name = feature_name(column);
            Type::primitive_type_builder(&name, Physical::FLOAT).with_repetition(Repetition::REQUIRED).build()
        };
        let names = ["split", "key"].into_iter().chain(self.columns.iter().map(|column| column.task.as_str()));
        let columns = names.map(text).chain((0..self.features.columns()).map(number));
        let columns = columns.map(|column| Ok(Arc::new(column.map_err(table_error)?))).collect::<Result<Vec<_>>>()?;
        Type::group_type_builder("features").with_fields(columns).build().map_err(table_error)
    }
}

fn feature_name(column: usize) -> String {
    format!("feature_{column}")
}

fn texts<'a, W: std::io::Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let values: Vec<ByteArray> = values.map(ByteArray::from).collect();
    let mut writer = group.next_column().map_err(table_error)?.ok_or_else(|| table_error("no column"))?;
    writer.typed::<ByteArrayType>().write_batch(&values, None, None).map_err(table_error)?;
    writer.close().map_err(table_error)
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::super::tests::three;

    #[test]
    fn a_csv_reads_back_to_the_last_digit() {
        let bytes = three().csv(true).unwrap();
        let mut table = csv::Reader::from_reader(bytes.as_slice());
        assert_eq!(table.headers().unwrap(), vec!["split", "key", "kind", "feature_0", "feature_1"]);
        let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
        assert_eq!(rows[0].get(2), Some("b, \"c\""));
        assert_eq!(rows[1].get(2), Some(""));
        assert_eq!(rows[1].get(3).unwrap().parse::<f32>().unwrap(), 3.0e-8);
        assert_eq!(rows[2].get(0), Some("test"));
    }

    #[test]
    fn an_npy_file_has_shape_and_values() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), three().npy().unwrap()).unwrap();
        let read = Tensor::read_npy(file.path()).unwrap();
        assert_eq!(read.to_vec2::<f32>().unwrap(), [[0.5, -1.25], [3.0e-8, 4.0], [7.0, 8.0]]);
    }

    #[test]
    fn a_parquet_file_has_a_column_for_each_feature() {
        let bytes = three().parquet().unwrap();
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let rows: Vec<String> = file.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(rows.len(), 3);
        assert!(rows[0].contains("kind: \"b, \"c\"\"") && rows[0].contains("feature_1: -1.25"), "{}", rows[0]);
    }
}
