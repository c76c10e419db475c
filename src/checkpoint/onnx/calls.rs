//! Owns how many operators the functions of an ONNX file become when each is written out where it is
//! called: a few of them that call each other twice become more than any machine holds. And that none that
//! repeats a graph is within another that does.

use std::collections::{BTreeMap, BTreeSet};

use super::operators;

use crate::util::text::shorten;

/// Operators at most when all functions are written out; a network of thousands of layers has some ten
/// thousand.
const OPERATORS_MAX: u64 = 1 << 20;

/// What a function, or an operator, is called by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FunctionName {
    pub(super) domain: String,
    pub(super) name: String,
}

/// The functions of a file, with what each of them calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    functions: BTreeMap<FunctionName, Vec<FunctionName>>,
}

impl Calls {
    /// Adds a function; of those with one name all count.
    pub(super) fn define(&mut self, function: FunctionName, called: Vec<FunctionName>) {
        self.functions.entry(function).or_default().extend(called);
    }

    /// That a graph that calls these becomes no more than a machine holds, and ends; `repeated` is what is
    /// called, by it or by a function, within operators that repeat it.
    ///
    /// # Errors
    /// More operators than that; a function that calls itself; repetitions of repetitions.
    pub(super) fn check(
        &self,
        called: &[FunctionName],
        repeated: &BTreeSet<FunctionName>,
    ) -> Result<(), String> {
        let mut sizes = BTreeMap::new();
        for function in self.functions.keys() {
            if !sizes.contains_key(function) {
                self.measure(function, &mut sizes)?;
            }
        }
        if let Some(within) = repeated.iter().find(|callee| measured(callee, &sizes).repeats) {
            return Err(format!(
                "its operator {} repeats steps within steps that are repeated; export the model with \
                 them written out",
                shorten(&within.name)
            ));
        }
        match all(called, &sizes).operators {
            all if all > OPERATORS_MAX => Err(format!(
                "its functions, written out, are more than {OPERATORS_MAX} operators; export the \
                 model without functions"
            )),
            _ => Ok(()),
        }
    }

    /// Counts the operators of a function and of all that it calls: those that others wait for first,
    /// without recursion, since a file may nest them deeply.
    fn measure<'a>(
        &'a self,
        function: &'a FunctionName,
        sizes: &mut Sizes<'a>,
    ) -> Result<(), String> {
        let begin = |function: &'a FunctionName| (function, self.functions[function].iter());
        let mut open = vec![begin(function)];
        sizes.insert(function, None);
        while let Some((last, rest)) = open.last_mut() {
            let Some(callee) = rest.find_map(|callee| self.functions.get_key_value(callee)) else {
                let all = all(&self.functions[*last], sizes);
                sizes.insert(last, Some(all));
                open.pop();
                continue;
            };
            match sizes.get(callee.0) {
                Some(Some(_)) => {}
                Some(None) => {
                    return Err(format!("its function {} calls itself", shorten(&callee.0.name)));
                }
                None => {
                    sizes.insert(callee.0, None);
                    open.push(begin(callee.0));
                }
            }
        }
        Ok(())
    }
}

/// What a call becomes.
#[derive(Debug, Clone, Copy)]
struct Measured {
    operators: u64,
    /// Whether one of them repeats a graph.
    repeats: bool,
}

/// By function; None of one that is being measured.
type Sizes<'a> = BTreeMap<&'a FunctionName, Option<Measured>>;

/// What a call becomes; one that isn't of a function is one operator.
fn measured(callee: &FunctionName, sizes: &Sizes) -> Measured {
    let own =
        || Measured { operators: 1, repeats: operators::repeats(&callee.name, &callee.domain) };
    sizes.get(callee).copied().flatten().unwrap_or_else(own)
}

/// What these calls become.
fn all(called: &[FunctionName], sizes: &Sizes) -> Measured {
    let none = Measured { operators: 0, repeats: false };
    called.iter().map(|callee| measured(callee, sizes)).fold(none, |sum, one| Measured {
        operators: sum.operators.saturating_add(one.operators),
        repeats: sum.repeats || one.repeats,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> FunctionName {
        FunctionName { domain: "mine".to_owned(), name: name.to_owned() }
    }

    /// Functions `f0` to the last, each of which calls the next twice; the last calls operators.
    fn doubling(count: usize) -> Calls {
        let mut calls = Calls::default();
        for place in 0..count {
            calls.define(name(&format!("f{place}")), vec![name(&format!("f{}", place + 1)); 2]);
        }
        calls
    }

    #[test]
    fn functions_are_counted_as_written_out() {
        let graph = [name("f0")];
        assert!(doubling(0).check(&graph, &BTreeSet::new()).is_ok());
        assert!(doubling(20).check(&graph, &BTreeSet::new()).is_ok());
        for many in [21, 26, 200, 5000] {
            assert!(
                doubling(many).check(&graph, &BTreeSet::new()).unwrap_err().contains("1048576"),
                "{many}"
            );
        }
        // One that nobody calls costs nothing.
        assert!(doubling(200).check(&[name("Conv")], &BTreeSet::new()).is_ok());
    }

    #[test]
    fn repetitions_are_not_repeated_whoever_calls_them() {
        let scan = FunctionName { domain: String::new(), name: "Scan".to_owned() };
        let mut calls = doubling(3);
        calls.define(name("f3"), vec![scan.clone()]);
        let check =
            |repeated: &FunctionName| calls.check(&[name("f0")], &[repeated.clone()].into());
        assert!(check(&name("Relu")).is_ok() && check(&name("Scan")).is_ok());
        for repeated in [&scan, &name("f3"), &name("f0")] {
            assert!(check(repeated).unwrap_err().contains("repeats steps within steps"));
        }
    }

    #[test]
    fn a_function_that_comes_back_to_itself_is_refused() {
        let mut calls = doubling(3);
        calls.define(name("f3"), vec![name("Relu"), name("f1")]);
        assert!(calls.check(&[], &BTreeSet::new()).unwrap_err().contains("calls itself"));
    }
}
