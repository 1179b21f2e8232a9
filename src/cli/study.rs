//! Arguments of `study`.

use std::path::PathBuf;

use clap::Args;

use super::DevicesArgs;

/// Arguments of `study`.
#[derive(Args, Debug)]
pub struct Study {
    /// TOML file, or the name of a built-in study (see `equimod list studies`).
    #[arg(value_name = "NAME|FILE", required_unless_present = "report")]
    pub study: Option<String>,
    /// Folder of the runs and of the report [default: out/<name of the study>; with --report, that of its file].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Run only the I-th of N parts of the runs, e.g. 2/5; the parts may run at once on several machines.
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// Take finished runs from this study.json of another machine; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub merge: Vec<PathBuf>,
    /// List the cells with their parameters, steps, FLOPs and forecast time on this machine's CPU, and exit.
    #[arg(long)]
    pub dry_run: bool,
    /// Remake the report and the tables from a study.json, and exit.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["study", "shard", "dry_run", "merge"])]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub device: DevicesArgs,
}

/// A part of the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Number of the part, from 1.
    pub part: usize,
    /// Number of parts.
    pub parts: usize,
}

fn shard(text: &str) -> Result<Shard, String> {
    let numbers = text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    match numbers {
        Some((part, parts)) if 1 <= part && part <= parts => Ok(Shard { part, parts }),
        _ => Err("write the part and the number of parts, such as 2/5".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!(shard("2/5"), Ok(Shard { part: 2, parts: 5 }));
        for wrong in ["0/5", "6/5", "2", "2/", "a/b", "1/0", "-1/2"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}
