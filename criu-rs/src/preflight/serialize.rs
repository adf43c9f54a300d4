//! Reports as data for other programs.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::need::Need;
use super::report::Report;

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let freeze = self.freeze_estimate();
        let micros = freeze.map(|freeze| [freeze.shortest, freeze.longest].map(|f| f.as_micros()));
        let mut report = serializer.serialize_struct("Report", 14)?;
        report.serialize_field("operation", self.operation)?;
        report.serialize_field("will_work", &self.will_work())?;
        report.serialize_field("is_possible", &self.is_possible())?;
        report.serialize_field("options", &self.options())?;
        report.serialize_field("safe_options", &self.safe_options())?;
        report.serialize_field("findings", self.findings())?;
        report.serialize_field("left_out", &self.left_out())?;
        report.serialize_field("tasks", &self.tasks())?;
        report.serialize_field("threads", &self.threads())?;
        report.serialize_field("descriptors", &self.descriptors())?;
        report.serialize_field("unreadable", &self.unreadable())?;
        report.serialize_field("memory", &self.memory())?;
        report.serialize_field("file_systems", &self.file_systems())?;
        report.serialize_field("freeze_us", &micros)?;
        report.end()
    }
}

impl Serialize for Need {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut need = serializer.serialize_struct("Need", 3)?;
        need.serialize_field("method", &self.to_string())?;
        need.serialize_field("option", &self.argument())?;
        need.serialize_field("on_restore", &self.on_restore())?;
        need.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::diagnosis::Cause;
    use crate::preflight::finding::Finding;
    use crate::preflight::need::Need;
    use crate::preflight::report::{Freeze, Report};
    use crate::value::Pid;

    #[test]
    fn a_report_serializes_as_its_methods_tell() {
        let lock = Finding::needs(Cause::FileLocks, vec![Need::FileLocks], false).safe();
        let report = Report {
            operation: "dump",
            findings: vec![lock.pid(Pid::this()).fd(7).path("/a")],
            left_out: 0,
            tasks: 1,
            threads: 2,
            descriptors: 3,
            unreadable: 0,
            memory: 4,
            files: 5,
            freeze: Some(Freeze {
                shortest: Duration::from_millis(1),
                longest: Duration::from_millis(2),
            }),
        };
        let locks = json!({"method": ".file_locks(true)", "option": "--file-locks",
                           "on_restore": true});
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["will_work"], false);
        assert_eq!(json["is_possible"], true);
        assert_eq!(json["options"], json!([locks]));
        assert_eq!(json["safe_options"], json!([locks]));
        assert_eq!(json["freeze_us"], json!([1000, 2000]));
        let finding = &json["findings"][0];
        assert_eq!(finding["severity"], "needs");
        assert_eq!(finding["cause"], "FileLocks");
        assert_eq!(finding["needs"], json!([locks]));
        let subject = json!({"pid": Pid::this().as_raw(), "fd": 7, "path": "/a", "inode": null});
        assert_eq!(finding["subject"], subject);
    }
}
