//! The verdict on results as lines for the terminal, and its advice as a command.

use equimod_eval::verdict::{Advice, Verdict};

/// Lines with the sentences, and with the suggested command if there is one.
pub fn lines(verdict: &Verdict, command: Option<String>) -> String {
    let next = command.map(|command| format!("Next: {command}"));
    verdict.sentences.iter().cloned().chain(next).map(|line| format!("{line}\n")).collect()
}

/// The command that follows the advice on an evaluation of one model: the same one with another option.
pub fn for_evaluation(advice: Option<Advice>) -> Option<String> {
    let option = match advice? {
        Advice::EvaluateUntrained => "--untrained",
        _ => return None,
    };
    Some(format!("{} {option}", std::env::args().collect::<Vec<_>>().join(" ")))
}
