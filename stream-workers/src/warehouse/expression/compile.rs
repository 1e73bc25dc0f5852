//! The parser's expressions → [`Expression`]. What is not supported is refused
//! by name at its place.

use super::{CastTarget, Comparison, Expression, Literal, Node, Operation};
use crate::warehouse::{
    decimal::{Decimal, SCALE_MAX},
    mistake::{Mistakes, Place, hint},
};
use sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, DuplicateTreatment, ExactNumberInfo, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Spanned, UnaryOperator, Value,
};

/// Which column a name means.
pub(crate) trait Resolve {
    /// The node that reads `path` (`x` or `table.x`); `None` after a mistake.
    fn resolve(&mut self, path: &[Ident], mistakes: &mut Mistakes) -> Option<Node>;
}

/// Compiles one expression; `None` when mistakes were added.
pub(crate) fn compile(expr: &Expr, scope: &mut dyn Resolve, mistakes: &mut Mistakes) -> Option<Expression> {
    Compiler { scope, mistakes }.expression(expr)
}

const FUNCTIONS: [&str; 5] = ["COALESCE", "NULLIF", "CONCAT", "CAST", "CASE"];
const AGGREGATES: [&str; 4] = ["SUM", "COUNT", "MIN", "MAX"];

struct Compiler<'c> {
    scope: &'c mut dyn Resolve,
    mistakes: &'c mut Mistakes,
}

impl Compiler<'_> {
    fn expression(&mut self, expr: &Expr) -> Option<Expression> {
        let place = Place::from(expr.span());
        let node = match expr {
            Expr::Nested(inner) => return self.expression(inner),
            Expr::Identifier(name) => self.scope.resolve(std::slice::from_ref(name), self.mistakes)?,
            Expr::CompoundIdentifier(path) => {
                let node = self.scope.resolve(path, self.mistakes)?;
                return Some(Expression::new(node, path.last()?.span.into()));
            }
            Expr::Value(value) => Node::Literal(self.literal(&value.value, place)?),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right)?,
            Expr::UnaryOp { op, expr } => self.unary(*op, expr)?,
            Expr::IsNull(operand) => Node::IsNull(self.boxed(operand)?),
            Expr::IsNotNull(operand) => negated(Node::IsNull(self.boxed(operand)?), place),
            Expr::InList { expr, list, negated } => {
                let (operand, list) = (self.boxed(expr), self.all(list));
                negated_if(*negated, Node::In { operand: operand?, list: list? }, place)
            }
            Expr::Between { expr, negated, low, high } => {
                let (low, high) = (self.compare(expr, Comparison::GreaterOrEqual, low), {
                    self.compare(expr, Comparison::LessOrEqual, high)
                });
                let bounds = vec![Expression::new(low?, place), Expression::new(high?, place)];
                negated_if(*negated, Node::And(bounds), place)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())?
            }
            Expr::Cast { kind: CastKind::Cast, expr, data_type, format: None } => {
                let target = self.cast_target(data_type, place);
                Node::Cast { operand: self.boxed(expr)?, target: target? }
            }
            Expr::Function(function) => self.function(function)?,
            other => return self.mistakes.refuse(place, format!("`{}` is not supported here", shown(other))),
        };
        Some(Expression::new(node, place))
    }

    fn boxed(&mut self, expr: &Expr) -> Option<Box<Expression>> {
        self.expression(expr).map(Box::new)
    }

    /// Compiles all, so that each one's mistakes are found.
    fn all<'e>(&mut self, list: impl IntoIterator<Item = &'e Expr>) -> Option<Vec<Expression>> {
        let compiled: Vec<_> = list.into_iter().map(|expr| self.expression(expr)).collect();
        compiled.into_iter().collect()
    }

    fn literal(&mut self, value: &Value, place: Place) -> Option<Literal> {
        match value {
            Value::Null => Some(Literal::Null),
            Value::Boolean(truth) => Some(Literal::Boolean(*truth)),
            Value::SingleQuotedString(text) => Some(Literal::Text(text.clone())),
            Value::Number(text, _) => match Decimal::parse(text) {
                Some(number) => Some(Literal::Number(number)),
                None => self.mistakes.refuse(place, format!("number {text} does not fit 38 digits")),
            },
            Value::DoubleQuotedString(text) => {
                self.mistakes.refuse(place, format!("write text in single quotes: '{text}'"))
            }
            other => self.mistakes.refuse(place, format!("literal {other} is not supported")),
        }
    }

    fn binary(&mut self, left: &Expr, operator: &BinaryOperator, right: &Expr) -> Option<Node> {
        let comparison = match operator {
            BinaryOperator::Eq => Comparison::Equal,
            BinaryOperator::NotEq => Comparison::NotEqual,
            BinaryOperator::Lt => Comparison::Less,
            BinaryOperator::LtEq => Comparison::LessOrEqual,
            BinaryOperator::Gt => Comparison::Greater,
            BinaryOperator::GtEq => Comparison::GreaterOrEqual,
            other => return self.connective(left, other, right),
        };
        self.compare(left, comparison, right)
    }

    fn connective(&mut self, left: &Expr, operator: &BinaryOperator, right: &Expr) -> Option<Node> {
        let sides = (self.boxed(left), self.boxed(right));
        let both = |(left, right): (Option<Box<_>>, Option<Box<_>>)| Some(vec![*left?, *right?]);
        let operator = match operator {
            BinaryOperator::And => return both(sides).map(Node::And),
            BinaryOperator::Or => return both(sides).map(Node::Or),
            BinaryOperator::StringConcat => return both(sides).map(Node::Concat),
            BinaryOperator::Plus => Operation::Add,
            BinaryOperator::Minus => Operation::Subtract,
            BinaryOperator::Multiply => Operation::Multiply,
            other => {
                return self.mistakes.refuse(left.span(), format!("operator `{other}` is not supported"));
            }
        };
        Some(Node::Arithmetic { operator, left: sides.0?, right: sides.1? })
    }

    fn compare(&mut self, left: &Expr, operator: Comparison, right: &Expr) -> Option<Node> {
        let (left, right) = (self.boxed(left), self.boxed(right));
        Some(Node::Compare { operator, left: left?, right: right? })
    }

    fn unary(&mut self, operator: UnaryOperator, operand: &Expr) -> Option<Node> {
        let compiled = self.expression(operand)?;
        match (operator, &compiled.node) {
            (UnaryOperator::Not, _) => Some(Node::Not(Box::new(compiled))),
            (UnaryOperator::Plus, _) => Some(compiled.node),
            (UnaryOperator::Minus, Node::Literal(Literal::Number(number))) => {
                number.checked_neg().map(|number| Node::Literal(Literal::Number(number)))
            }
            (UnaryOperator::Minus, _) => {
                let zero = Expression::new(Node::Literal(Literal::Number(Decimal::ZERO)), compiled.place);
                let (left, right) = (Box::new(zero), Box::new(compiled));
                Some(Node::Arithmetic { operator: Operation::Subtract, left, right })
            }
            (other, _) => {
                self.mistakes.refuse(operand.span(), format!("operator `{other}` is not supported"))
            }
        }
    }

    /// `CASE x WHEN v …` is `CASE WHEN x = v …`.
    fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Option<Node> {
        let mut branches = Some(Vec::new());
        for CaseWhen { condition, result } in conditions {
            let when = match operand {
                None => self.expression(condition),
                Some(operand) => {
                    let node = self.compare(operand, Comparison::Equal, condition);
                    node.map(|node| Expression::new(node, condition.span().into()))
                }
            };
            let then = self.expression(result);
            match (&mut branches, when.zip(then)) {
                (Some(branches), Some(branch)) => branches.push(branch),
                _ => branches = None,
            }
        }
        let otherwise = match otherwise {
            Some(otherwise) => Some(self.boxed(otherwise)?),
            None => None,
        };
        Some(Node::Case { branches: branches?, otherwise })
    }

    fn cast_target(&mut self, data_type: &DataType, place: Place) -> Option<CastTarget> {
        let number = match data_type {
            DataType::BigInt(None) => return Some(CastTarget::BigInt),
            DataType::Char(None) | DataType::Varchar(None) | DataType::String(None) => {
                return Some(CastTarget::Char);
            }
            DataType::Decimal(number) | DataType::Numeric(number) => number,
            other => {
                let message =
                    format!("CAST AS {other} is not supported; there is BIGINT, CHAR, DECIMAL(p, s)");
                return self.mistakes.refuse(place, message);
            }
        };
        let (precision, scale) = match number {
            // What MySQL and Flink mean by a bare DECIMAL.
            ExactNumberInfo::None => (10, 0),
            ExactNumberInfo::Precision(precision) => (*precision, 0),
            ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
        };
        match (u32::try_from(precision), u32::try_from(scale)) {
            (Ok(precision), Ok(scale)) if (1..=SCALE_MAX).contains(&precision) && scale <= precision => {
                Some(CastTarget::Decimal { precision, scale })
            }
            _ => self.mistakes.refuse(place, "DECIMAL(p, s) needs 1 <= p <= 38 and 0 <= s <= p"),
        }
    }

    fn function(&mut self, function: &Function) -> Option<Node> {
        let (name, place) = (function.name.to_string().to_uppercase(), function.name.span());
        if name == "AVG" {
            return self
                .mistakes
                .refuse(place, "AVG is not supported: select SUM and COUNT, and divide in ads/");
        }
        if AGGREGATES.contains(&name.as_str()) {
            let message =
                format!("{name} is an aggregate: it can only be a SELECT item of its own in a file of dws/");
            return self.mistakes.refuse(place, message);
        }
        if !["COALESCE", "NULLIF", "CONCAT"].contains(&name.as_str()) {
            let message = format!("function {name} is not supported{}", hint(&name, FUNCTIONS));
            return self.mistakes.refuse(place, message);
        }
        let arguments = plain_arguments(function, self.mistakes)?;
        let mut arguments = self.all(arguments)?;
        match (name.as_str(), arguments.len()) {
            ("COALESCE", 1..) => Some(Node::Coalesce(arguments)),
            ("CONCAT", 1..) => Some(Node::Concat(arguments)),
            ("NULLIF", 2) => {
                let (right, left) = (arguments.pop()?, arguments.pop()?);
                Some(Node::NullIf(Box::new(left), Box::new(right)))
            }
            (name, count) => self.mistakes.refuse(place, format!("{name} cannot take {count} arguments")),
        }
    }
}

/// The arguments of a call without DISTINCT, OVER, FILTER or names; `*` is not
/// among them.
pub(crate) fn plain_arguments<'f>(function: &'f Function, mistakes: &mut Mistakes) -> Option<Vec<&'f Expr>> {
    let place = function.name.span();
    let bare = function.over.is_none()
        && function.filter.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty()
        && matches!(function.parameters, FunctionArguments::None)
        && !function.uses_odbc_syntax;
    let FunctionArguments::List(list) = &function.args else {
        return mistakes.refuse(place, format!("`{function}`: arguments in parentheses are needed"));
    };
    if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
        return mistakes.refuse(place, format!("`{function}`: DISTINCT is not supported"));
    }
    if !bare || !list.clauses.is_empty() {
        return mistakes.refuse(place, format!("`{function}`: only plain arguments are supported"));
    }
    let plain = |argument: &'f FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    };
    match list.args.iter().map(plain).collect() {
        Some(arguments) => Some(arguments),
        None => mistakes.refuse(place, format!("`{function}`: only plain arguments are supported")),
    }
}

fn negated(node: Node, place: Place) -> Node {
    Node::Not(Box::new(Expression::new(node, place)))
}

fn negated_if(not: bool, node: Node, place: Place) -> Node {
    if not { negated(node, place) } else { node }
}

/// An expression for a message, shortened.
fn shown(expr: &Expr) -> String {
    const CHARS_MAX: usize = 60;
    let text = expr.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
