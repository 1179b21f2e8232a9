//! Options for decoding image files.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Options for reading images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether images are rotated and flipped by their EXIF orientation. Default: no, as in torchvision.
    pub apply_orientation: bool,
    /// Color behind transparent pixels. Default: none, alpha is dropped.
    pub background: Background,
}

impl ReadOptions {
    /// Key of a cache for images that are read with these options, where `key` identifies the files.
    pub(crate) fn cache_key(&self, key: String) -> String {
        match *self == Self::default() {
            true => key,
            false => format!("{key} orientation {} background {}", self.apply_orientation, self.background),
        }
    }
}

/// Color behind transparent pixels, as `white`, `black`, `gray`, `#rgb` or `#rrggbb`; empty to drop alpha, as Pillow's `convert` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Background(pub Option<[u8; 3]>);

impl FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a color; give white, black, gray or #rrggbb, or nothing to drop alpha");
        let color = match text.to_ascii_lowercase().as_str() {
            "" => return Ok(Self(None)),
            "white" => [255; 3],
            "black" => [0; 3],
            "gray" | "grey" => [128; 3],
            code => {
                let digits = code.strip_prefix('#').filter(|digits| digits.is_ascii()).ok_or_else(wrong)?;
                let each = match digits.len() {
                    3 => 1,
                    6 => 2,
                    _ => return Err(wrong()),
                };
                let channel = |place: usize| {
                    let digits = &digits[each * place..each * (place + 1)];
                    u8::from_str_radix(&digits.repeat(2 / each), 16).map_err(|_| wrong())
                };
                [channel(0)?, channel(1)?, channel(2)?]
            }
        };
        Ok(Self(Some(color)))
    }
}

impl fmt::Display for Background {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some([255, 255, 255]) => f.write_str("white"),
            Some([0, 0, 0]) => f.write_str("black"),
            Some([red, green, blue]) => write!(f, "#{red:02x}{green:02x}{blue:02x}"),
        }
    }
}

impl TryFrom<String> for Background {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Background> for String {
    fn from(background: Background) -> Self {
        background.to_string()
    }
}

impl JsonSchema for Background {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Background".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(|[wW]hite|[bB]lack|[gG]r[ae]y|#[0-9a-fA-F]{3}|#[0-9a-fA-F]{6})$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_read_back_and_others_are_refused() {
        for text in ["", "white", "black", "#0a1bff"] {
            assert_eq!(text.parse::<Background>().unwrap().to_string(), text);
        }
        assert_eq!("#FFFFFF".parse::<Background>().unwrap().to_string(), "white");
        let same = [("White", "white"), ("#FFF", "white"), ("#0aF", "#00aaff"), ("grey", "#808080")];
        for (text, color) in same {
            assert_eq!(text.parse::<Background>().unwrap().to_string(), color);
        }
        for text in ["red", "#ff", "#xyz", "#12345", "#12345g", "#1234567", "#ääa"] {
            assert!(text.parse::<Background>().unwrap_err().contains(text), "{text}");
        }
    }
}
