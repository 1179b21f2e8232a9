//! PyTorch's element types and their conversion to candle's.

use candle_core::{DType, Device, Tensor};

/// Conversion of an element type to candle's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The same type in candle.
    As(DType),
    /// 8-bit signed integers, read as 16-bit ones.
    Signed8,
    /// 8-bit floating-point numbers, read as f32.
    Float8(Float8),
    /// A type that candle lacks and that weights do not use.
    Unknown,
}

/// An 8-bit floating-point format (Micikevicius et al., arXiv 2209.05433; the `fnuz` formats: arXiv 2206.02915).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Float8 {
    /// Number of mantissa bits.
    fraction: u32,
    /// Exponent bias.
    bias: i32,
    /// Whether an exponent of all ones encodes infinities and NaN, as in IEEE 754.
    infinities: bool,
    /// Whether the only NaN has the encoding of negative zero.
    unsigned_zero: bool,
}

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Name in PyTorch, without `torch.`.
    pub name: &'static str,
    /// Size of an element, in bytes.
    pub size: usize,
    reading: Reading,
}

const fn element(name: &'static str, size: usize, reading: Reading) -> Element {
    Element { name, size, reading }
}

const fn float8(name: &'static str, fraction: u32, bias: i32, infinities: bool, unsigned_zero: bool) -> Element {
    element(name, 1, Reading::Float8(Float8 { fraction, bias, infinities, unsigned_zero }))
}

/// Element types with the names of their storage classes, if they have one.
const ELEMENTS: [(&str, Element); 23] = [
    ("DoubleStorage", element("float64", 8, Reading::As(DType::F64))),
    ("FloatStorage", element("float32", 4, Reading::As(DType::F32))),
    ("HalfStorage", element("float16", 2, Reading::As(DType::F16))),
    ("BFloat16Storage", element("bfloat16", 2, Reading::As(DType::BF16))),
    ("LongStorage", element("int64", 8, Reading::As(DType::I64))),
    ("IntStorage", element("int32", 4, Reading::As(DType::I32))),
    ("ShortStorage", element("int16", 2, Reading::As(DType::I16))),
    ("CharStorage", element("int8", 1, Reading::Signed8)),
    ("ByteStorage", element("uint8", 1, Reading::As(DType::U8))),
    ("BoolStorage", element("bool", 1, Reading::As(DType::U8))),
    ("", element("uint32", 4, Reading::As(DType::U32))),
    ("", float8("float8_e4m3fn", 3, 7, false, false)),
    ("", float8("float8_e5m2", 2, 15, true, false)),
    ("", float8("float8_e4m3fnuz", 3, 8, false, true)),
    ("", float8("float8_e5m2fnuz", 2, 16, false, true)),
    ("", element("float8_e8m0fnu", 1, Reading::Unknown)),
    ("", element("uint16", 2, Reading::Unknown)),
    ("", element("uint64", 8, Reading::Unknown)),
    ("ComplexDoubleStorage", element("complex128", 16, Reading::Unknown)),
    ("ComplexFloatStorage", element("complex64", 8, Reading::Unknown)),
    ("QInt8Storage", element("qint8", 1, Reading::Unknown)),
    ("QUInt8Storage", element("quint8", 1, Reading::Unknown)),
    ("QInt32Storage", element("qint32", 4, Reading::Unknown)),
];

/// Element type of a storage class such as `FloatStorage`; `None` if it is unknown.
pub fn of_storage(class: &str) -> Option<Element> {
    ELEMENTS.iter().find(|(storage, _)| *storage == class).map(|(_, element)| *element)
}

/// Element type `torch.NAME`; `None` if it is unknown.
pub fn of_type(name: &str) -> Option<Element> {
    ELEMENTS.iter().find(|(_, element)| element.name == name).map(|(_, element)| *element)
}

impl Element {
    /// Whether tensors of this type are supported.
    pub fn is_read(self) -> bool {
        self.reading != Reading::Unknown
    }

    /// A tensor of shape `dims` from the bytes of its elements in row-major order.
    ///
    /// # Errors
    ///
    /// If the type is not supported, or the number of bytes does not match the shape.
    pub fn tensor(self, bytes: &[u8], dims: &[usize]) -> candle_core::Result<Tensor> {
        let device = &Device::Cpu;
        match self.reading {
            Reading::As(dtype) => Tensor::from_raw_buffer(bytes, dtype, dims, device),
            Reading::Signed8 => {
                let wide: Vec<i16> = bytes.iter().map(|&byte| i16::from(byte as i8)).collect();
                Tensor::from_vec(wide, dims, device)
            }
            Reading::Float8(format) => {
                let table: [f32; 256] = std::array::from_fn(|byte| format.value(byte as u32));
                let values: Vec<f32> = bytes.iter().map(|&byte| table[usize::from(byte)]).collect();
                Tensor::from_vec(values, dims, device)
            }
            Reading::Unknown => candle_core::bail!("torch.{} is not read", self.name),
        }
    }
}

impl Float8 {
    /// Value of a byte in this format, exact in f32.
    fn value(self, byte: u32) -> f32 {
        let (sign, rest) = (if byte & 0x80 == 0 { 1.0 } else { -1.0 }, byte & 0x7f);
        let (exponent, fraction) = ((rest >> self.fraction) as i32, rest & ((1 << self.fraction) - 1));
        let largest: i32 = 0x7f >> self.fraction;
        if self.unsigned_zero && byte == 0x80 || !self.unsigned_zero && !self.infinities && rest == 0x7f {
            return f32::NAN;
        }
        if self.infinities && exponent == largest {
            return if fraction == 0 { sign * f32::INFINITY } else { f32::NAN };
        }
        let fraction = fraction as f32 / (1 << self.fraction) as f32;
        let (fraction, exponent) = if exponent == 0 { (fraction, 1) } else { (1.0 + fraction, exponent) };
        sign * fraction * ((exponent - self.bias) as f32).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str, bytes: &[u8]) -> Vec<f32> {
        of_type(name).unwrap().tensor(bytes, &[bytes.len()]).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn numbers_of_eight_bits_are_those_of_the_formats_definitions() {
        // Zero, the smallest subnormal and normal numbers, one, the largest number (arXiv 2209.05433, table 1).
        let least = [0x00, 0x01, 0x08, 0x38, 0x7e, 0xfe];
        let expected = [0.0, 2f32.powi(-9), 2f32.powi(-6), 1.0, 448.0, -448.0];
        assert_eq!(values("float8_e4m3fn", &least), expected);
        let least = [0x80, 0x01, 0x04, 0x3c, 0x7b, 0x7c, 0xfc];
        let expected = [0.0, 2f32.powi(-16), 2f32.powi(-14), 1.0, 57344.0, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(values("float8_e5m2", &least), expected);
        assert_eq!(values("float8_e4m3fnuz", &[0x00, 0x40, 0x7f]), [0.0, 1.0, 240.0]);
        assert_eq!(values("float8_e5m2fnuz", &[0x00, 0x40, 0x7f]), [0.0, 1.0, 57344.0]);
        for (name, byte) in [
            ("float8_e4m3fn", 0x7f),
            ("float8_e4m3fn", 0xff),
            ("float8_e5m2", 0x7d),
            ("float8_e4m3fnuz", 0x80),
            ("float8_e5m2fnuz", 0x80),
        ] {
            assert!(values(name, &[byte])[0].is_nan(), "{name} {byte}");
        }
    }

    #[test]
    fn every_number_of_e4m3fn_is_candles() {
        let bytes: Vec<u8> = (0..=255).collect();
        let theirs = Tensor::from_raw_buffer(&bytes, DType::F8E4M3, &[256], &Device::Cpu).unwrap();
        let theirs: Vec<f32> = theirs.to_dtype(DType::F32).unwrap().to_vec1().unwrap();
        for (ours, theirs) in values("float8_e4m3fn", &bytes).into_iter().zip(theirs) {
            assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "{ours} {theirs}");
        }
    }

    #[test]
    fn signed_bytes_keep_their_sign() {
        let tensor = of_type("int8").unwrap().tensor(&[0x80, 0xff, 0x7f], &[3]).unwrap();
        assert_eq!(tensor.to_vec1::<i16>().unwrap(), [-128, -1, 127]);
    }
}
