//! What clients were told of numbers and of bindings has one order that explains it.

use std::fmt::Debug;

use tandem_chaos::oracle::{Binding, Model, Number, Operation, Verdict, check};

use super::Checked;
use crate::record::{Histories, Record};

/// The number of operations, and of those that stayed open.
pub(crate) fn histories(record: &Record) -> Result<(usize, usize), String> {
    let kept = record.kept();
    let numbers = each::<_, Number>(&kept.numbers)?;
    let bindings = each::<_, Binding>(&kept.bindings)?;
    Ok((numbers.0 + bindings.0, numbers.1 + bindings.1))
}

fn each<K: Debug, M: Model>(histories: &Histories<K, M>) -> Result<(usize, usize), String>
where
    M::Op: Clone + Debug,
    M::Said: Clone + Debug,
{
    let (mut count, mut open) = (0, 0);
    for (key, history) in histories {
        let history: Vec<_> = history.iter().flatten().cloned().collect();
        count += history.len();
        open += history.iter().filter(|operation| operation.answered.is_none()).count();
        one::<M>(&history).map_err(|verdict| format!("{key:?} is {verdict}"))?;
    }
    Ok((count, open))
}

fn one<M: Model>(history: &[Operation<M::Op, M::Said>]) -> Checked
where
    M::Op: Debug,
    M::Said: Debug,
{
    match check::<M>(history) {
        Verdict::Linearizable => Ok(()),
        verdict => Err(format!("{verdict:?} linearizable: {history:#?}")),
    }
}
