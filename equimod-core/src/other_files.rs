//! Recognition of files that are often mistaken for weights, for clear error messages.

use crate::torch_file;

/// First bytes of files, each with the kind of file and the remedy.
const BEGINNINGS: [(&[u8], &str); 14] = [
    (
        b"version https://git-lfs",
        "it is a pointer of Git LFS, not the file it points to; fetch that with `git lfs pull`",
    ),
    (b"<!DOCTYPE", WEB_PAGE),
    (b"<!doctype", WEB_PAGE),
    (b"<html", WEB_PAGE),
    (b"<HTML", WEB_PAGE),
    (b"<?xml", WEB_PAGE),
    (b"\x1f\x8b", "it is compressed with gzip; decompress it first (`gunzip`)"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with Zstandard; decompress it first (`unzstd`)"),
    (b"\xfd7zXZ\0", "it is compressed with xz; decompress it first (`unxz`)"),
    (b"BZh", "it is compressed with bzip2; decompress it first (`bunzip2`)"),
    (b"\x89HDF\r\n", "it is an HDF5 file, as Keras writes them; only weights of PyTorch are read"),
    (b"\x93NUMPY", "it is an array of NumPy; only files of several named tensors are read"),
    (b"GGUF", "it is a GGUF file of a language model; only ResNets are read"),
    (b"{", "it is JSON, perhaps the index of several files of weights; give a file of weights"),
];
const WEB_PAGE: &str = "it is a web page, probably what a server said in place of the file; fetch it again";
/// Offset and bytes of a tar archive's signature.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Kind of a file that is often mistaken for weights, and the remedy; `None` if it is not recognized.
pub(crate) fn what_it_is(bytes: &[u8]) -> Option<String> {
    let beginning = bytes.trim_ascii_start();
    if beginning.is_empty() {
        return Some("it is empty; fetch it again".into());
    }
    // A safetensors header, whose length field may have any first bytes.
    if matches!(bytes, [_, _, _, _, _, 0, 0, 0, b'{', ..]) {
        return None;
    }
    if let Some((_, what)) = BEGINNINGS.iter().find(|(start, _)| beginning.starts_with(start)) {
        return Some((*what).into());
    }
    if bytes.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1)) {
        return Some("it is a tar archive; unpack it (PyTorch before 0.1.10 wrote such, which are not read)".into());
    }
    let (writer, is_pickle) = (torch_file::writer_of_pickle(bytes), matches!(bytes, [0x80, 2..=5, ..]));
    is_pickle.then(|| {
        let by = writer.map(|writer| format!(" by {writer}")).unwrap_or_default();
        format!("it is a plain pickle{by}, not one of `torch.save`; in Python, save the state dictionary with that")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_for_what_they_are() {
        let detectron = b"\x80\x02}(X\x05\x00\x00\x00model}X\x0a\x00\x00\x00__author__X\x0a\x00\x00\x00Detectron2u.";
        for (bytes, words) in [
            (&b""[..], "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
            (b"\n<!DOCTYPE html><html>", "web page"),
            (b"\x1f\x8b\x08\0\0", "gunzip"),
            (b"\x80\x04]\x94.", "plain pickle, not"),
            (detectron, "plain pickle by Detectron2"),
            (b"{\"weight_map\": {}}", "JSON"),
        ] {
            let what = what_it_is(bytes).unwrap();
            assert!(what.contains(words) && !what.contains("damaged"), "{what}");
        }
        assert_eq!(what_it_is(b"anything else"), None);
        assert!(what_it_is(&[&[b'a'; 257][..], b"ustar"].concat()).unwrap().contains("tar archive"));
    }
}
