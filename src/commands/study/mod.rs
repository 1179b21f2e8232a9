//! `equimod study`: a grid of recipes with several seeds, trained, evaluated and compared.

mod check;
mod collect;
mod dry_run;
mod file;
mod merge;
mod merged;
mod plan;
mod progress;
mod reader;
mod session;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use equimod_core::checkpoint::write_atomic;
use equimod_eval::results::aligned;
use equimod_eval::study::{StudyRecord, figures, headline, latex, markdown, page, spreads, verdict};
use equimod_train::run_dir::is_run;

use crate::cli::Study;
use crate::outputs::console;
use crate::outputs::evaluation::file_name;
use crate::process::exit::{self, Usage};
use crate::process::launch::Launch;
use check::check_evaluations;
use collect::collect;
use merge::merge;
use plan::Plan;
use progress::StudyProgress;
use session::{Session, Unit};
use work::{finish, stage};

/// Runs a study, or remakes its report.
pub fn run(arguments: &Study, verbose: bool) -> anyhow::Result<ExitCode> {
    let launch = Launch::join()?;
    launch.run(verbose, || match launch.processes() {
        1 => run_alone(arguments),
        processes => {
            let text = format!("{processes} processes were started, but a study runs in one; give each its --shard");
            Err(Usage(text).into())
        }
    })
}

fn run_alone(arguments: &Study) -> anyhow::Result<ExitCode> {
    if let Some(file) = &arguments.report {
        return remake(file, arguments.out.as_deref());
    }
    let plan = Plan::read(arguments.study.as_deref().unwrap_or_default())?;
    check_evaluations(&plan)?;
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("out").join(&plan.file.name));
    if is_run(&out) {
        let text =
            format!("{} is a run directory; give --out with another folder, or the study another name", out.display());
        return Err(Usage(text).into());
    }
    let mut session = Session::open(plan, out, &arguments.device.device)?;
    session.merged = merge(&session, &arguments.merge)?;
    if arguments.dry_run {
        dry_run::dry_run(&session, arguments.shard)?;
        return Ok(ExitCode::SUCCESS);
    }
    session.signals.listen()?;
    std::fs::create_dir_all(&session.out).with_context(|| format!("cannot create {}", session.out.display()))?;
    write_atomic(&session.out.join("study.toml"), session.plan.text.as_bytes())?;
    let units = session.units(arguments.shard);
    let ended = work_through(&session, &units)?;
    let record = collect(&session)?;
    write_atomic(&session.out.join("study.json"), &record.to_json())?;
    write_report(&record, &session.out)?;
    if !ended {
        console::note("stopped; the same command goes on");
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    print(&record, &session.out)?;
    Ok(ExitCode::SUCCESS)
}

/// Trains and evaluates all runs that are not finished; `false` if a signal stopped it.
fn work_through(session: &Session, units: &[Unit]) -> anyhow::Result<bool> {
    let work = |unit: &Unit| session.sizes[unit.cell].work();
    let progress = StudyProgress::new(units.len(), units.iter().map(work).sum());
    let mut open = Vec::new();
    // A run with other settings is refused before anything is trained.
    for unit in units {
        match stage(session, unit)?.is_final() {
            true => progress.skip(work(unit)),
            false => open.push(unit),
        }
    }
    for unit in open {
        let name = &session.plan.cells[unit.cell].name;
        progress.begin(format!("{name} seed {}", unit.seed), work(unit));
        if session.signals.is_stopped() || !finish(session, unit, &progress)? {
            progress.finish();
            return Ok(false);
        }
        progress.end();
    }
    progress.finish();
    Ok(true)
}

/// Remakes the report from a file `study.json`.
fn remake(file: &Path, out: Option<&Path>) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let record = StudyRecord::parse(&file.display().to_string(), &bytes)?;
    let beside = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let out: PathBuf = out.unwrap_or(beside).into();
    std::fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    write_report(&record, &out)?;
    print(&record, &out)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes what follows from the record: the page and the tables.
fn write_report(record: &StudyRecord, out: &Path) -> anyhow::Result<()> {
    write_atomic(&out.join("study.html"), page(record).as_bytes())?;
    write_atomic(&out.join("study.md"), markdown(record).as_bytes())?;
    write_atomic(&out.join("study.tex"), latex(record).as_bytes())?;
    let folder = out.join("figures");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    figures(record).iter().try_for_each(|(title, svg)| {
        let file = folder.join(format!("{}.svg", file_name(title)));
        Ok(write_atomic(&file, svg.as_bytes())?)
    })
}

fn print(record: &StudyRecord, out: &Path) -> anyhow::Result<()> {
    let table = spreads(record, &headline(record));
    let verdict: String = verdict(record).iter().map(|sentence| format!("{sentence}\n")).collect();
    let table = aligned(&table.headings, &table.rows);
    console::result(&format!("{table}\n{verdict}report {}", out.join("study.html").display()))
}
