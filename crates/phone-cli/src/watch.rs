//! The command `countersign device watch`: asks the user to answer each new challenge.

use std::collections::HashSet;
use std::time::Duration;

use device::{Answer, Challenge, Enrollment, Error};
use terminal::{CliError, prompt, say, say_text};

use crate::input::Input;
use crate::phones::EnrolledPhone;
use crate::screen::pending_challenge;

/// Whether to continue watching for challenges.
enum Flow {
    Continue,
    End,
}

/// The user's decision about a challenge.
enum Decision {
    Answer(Answer),
    Skip,
}

struct Watch {
    input: Input,
    /// SIDs of the challenges that were already shown to the user.
    shown: HashSet<String>,
    /// URLs of unreachable servers and SIDs of factors whose requests failed. Each problem is printed only
    /// once.
    problems: HashSet<String>,
}

/// Polls for challenges and asks the user about each one, until Ctrl-C or the end of input.
pub(crate) async fn run(phones: Vec<EnrolledPhone>, interval: Duration) -> Result<(), CliError> {
    for enrolled in &phones {
        say(format_args!("Watching {} at {}", enrolled.title(), enrolled.enrollment.base_url))?;
    }
    say_text("Press Ctrl-C to stop.\n")?;
    let mut watch = Watch { input: Input::standard(), shown: HashSet::new(), problems: HashSet::new() };
    tokio::select! {
        result = watch.poll_all(&phones, interval) => result,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            // Ends the line on which the terminal has printed `^C`.
            say("")
        }
    }
}

impl Watch {
    async fn poll_all(&mut self, phones: &[EnrolledPhone], interval: Duration) -> Result<(), CliError> {
        loop {
            for enrolled in phones {
                if let Flow::End = self.poll(enrolled).await? {
                    return Ok(());
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = self.input.wait_for_end() => return Ok(()),
            }
        }
    }

    /// Polls once for the pending challenges of one phone, and asks about the new ones, oldest first.
    async fn poll(&mut self, enrolled: &EnrolledPhone) -> Result<Flow, CliError> {
        let list = match enrolled.list_pending().await {
            Ok(list) => list,
            Err(error) => {
                self.report_problem(enrolled, error)?;
                return Ok(Flow::Continue);
            }
        };
        let Enrollment { base_url, factor_sid, .. } = &enrolled.enrollment;
        if self.problems.remove(base_url) | self.problems.remove(factor_sid) {
            say_text(format!("{}: requests to the server succeed again.\n", enrolled.title()))?;
        }
        for challenge in list.challenges.iter().rev() {
            if self.shown.insert(challenge.sid.clone())
                && let Flow::End = self.ask(enrolled, challenge).await?
            {
                return Ok(Flow::End);
            }
        }
        Ok(Flow::Continue)
    }

    /// Prints an error that occurred while polling: once per server if the server is unreachable, otherwise
    /// once per factor.
    fn report_problem(&mut self, enrolled: &EnrolledPhone, error: Error) -> Result<(), CliError> {
        let Enrollment { base_url, factor_sid, .. } = &enrolled.enrollment;
        let subject = if matches!(error, Error::Transport(_)) { base_url } else { factor_sid };
        if self.problems.insert(subject.clone()) {
            say_text(format!("{}: {}. Will retry.\n", enrolled.title(), enrolled.explain(error)))?;
        }
        Ok(())
    }

    /// Shows a challenge, asks the user for a decision, and sends the answer.
    async fn ask(&mut self, enrolled: &EnrolledPhone, challenge: &Challenge) -> Result<Flow, CliError> {
        if challenge.expires_at <= enrolled.now() {
            return Ok(Flow::Continue);
        }
        self.input.discard_typed_ahead();
        say(enrolled.title())?;
        say_text(pending_challenge(challenge, enrolled.now()).trim_end())?;
        match self.read_decision().await? {
            None => return Ok(Flow::End),
            Some(Decision::Skip) => say_text("Skipped.\n")?,
            Some(Decision::Answer(answer)) => self.answer(enrolled, challenge, answer).await?,
        }
        Ok(Flow::Continue)
    }

    /// Asks until the user types a valid decision, and returns it. Returns `None` at the end of input.
    async fn read_decision(&mut self) -> Result<Option<Decision>, CliError> {
        loop {
            prompt("Approve? y(es), n(o), s(kip):")?;
            let Some(line) = self.input.next_line().await else {
                say("")?;
                return Ok(None);
            };
            if !self.input.is_terminal() {
                say(&line)?;
            }
            match line.trim().to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(Some(Decision::Answer(Answer::Approved))),
                "n" | "no" => return Ok(Some(Decision::Answer(Answer::Denied))),
                "s" | "skip" => return Ok(Some(Decision::Skip)),
                _ => {}
            }
        }
    }

    async fn answer(
        &mut self,
        enrolled: &EnrolledPhone,
        challenge: &Challenge,
        answer: Answer,
    ) -> Result<(), CliError> {
        match enrolled.phone.answer(&enrolled.enrollment, &challenge.sid, answer).await {
            Ok(answered) => say_text(format!("The challenge is {}.\n", answered.status.as_str())),
            // The server may have received the answer. In that case the challenge is no longer pending and is
            // not shown again.
            Err(error @ Error::Transport(_)) => {
                self.shown.remove(&challenge.sid);
                say_text(format!("{}. You will be asked again.\n", enrolled.explain(error)))
            }
            Err(error) => say_text(format!("{}.\n", enrolled.explain(error))),
        }
    }
}
