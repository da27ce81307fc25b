//! Audits that the daemon was asked for.

use rusqlite::OptionalExtension;

use super::connection::Db;
use crate::model::Timestamp;
use crate::store::error::StoreError;
use crate::store::reports::AuditRequest;
use crate::store::traits::AUDIT_REQUESTS_KEPT;

impl Db {
    /// Asks for an audit of the feed; returns the number of the request, an earlier one's if that has not begun.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn request_audit(&mut self, feed_id: &str, now: Timestamp) -> Result<i64, StoreError> {
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO audit_requests (feed_id, requested_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            (feed_id, now.to_string()),
        )?;
        let sql = "SELECT id FROM audit_requests WHERE feed_id = ?1 AND begun_at IS NULL";
        let id = transaction.query_row(sql, [feed_id], |row| row.get(0))?;
        transaction.commit()?;
        Ok(id)
    }

    /// Makes requests whose audits were interrupted new ones.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn renew_audits(&mut self, feed_id: &str) -> Result<(), StoreError> {
        // A feed has one request that has not begun. Any other is answered together with it.
        self.connection.execute(
            "UPDATE OR IGNORE audit_requests SET begun_at = NULL WHERE feed_id = ?1 AND finished_at IS NULL",
            [feed_id],
        )?;
        Ok(())
    }

    /// Begins the audit of a feed that was asked for; returns false if none was.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn begin_audit(&mut self, feed_id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "UPDATE audit_requests SET begun_at = ?2 WHERE feed_id = ?1 AND begun_at IS NULL",
        )?;
        Ok(statement.execute((feed_id, now.to_string()))? > 0)
    }

    /// Answers the requests for a feed that have begun, with `result`; removes old requests.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn finish_audit(
        &mut self,
        feed_id: &str,
        result: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        let kept = AUDIT_REQUESTS_KEPT.as_millis() as i64;
        let oldest = Timestamp::from_millis(now.as_millis() - kept).to_string();
        transaction.execute(
            "DELETE FROM audit_requests WHERE requested_at < ?1 AND (finished_at IS NOT NULL OR feed_id <> ?2)",
            (oldest, feed_id),
        )?;
        transaction.execute(
            "UPDATE audit_requests SET finished_at = ?2, result = ?3
             WHERE feed_id = ?1 AND begun_at IS NOT NULL AND finished_at IS NULL",
            (feed_id, now.to_string(), result),
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// The feeds of which an audit was asked for that has not ended.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn requested_audits(&self) -> Result<Vec<String>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT DISTINCT feed_id FROM audit_requests WHERE finished_at IS NULL ORDER BY feed_id",
        )?;
        let feeds = statement.query_map([], |row| row.get(0))?;
        Ok(feeds.collect::<Result<_, _>>()?)
    }

    /// What became of the request `id`.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn audit_request(&self, id: i64) -> Result<Option<AuditRequest>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT begun_at IS NOT NULL, result FROM audit_requests WHERE id = ?1",
        )?;
        let request = statement.query_row([id], |row| {
            Ok(AuditRequest {
                begun: row.get(0)?,
                result: row.get(1)?,
            })
        });
        Ok(request.optional()?)
    }
}
