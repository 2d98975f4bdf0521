CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE sweeps (
	sweep_id TEXT NOT NULL, 
	"plan" TEXT NOT NULL, 
	started_utc_ns BIGINT NOT NULL, 
	CONSTRAINT pk_sweeps PRIMARY KEY (sweep_id)
);
CREATE TABLE devices (
	device_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	os TEXT NOT NULL, 
	os_build TEXT, 
	arch TEXT NOT NULL, 
	soc TEXT, 
	memory_total_bytes BIGINT, 
	seen_utc_ns BIGINT NOT NULL, 
	facts_json TEXT NOT NULL, 
	CONSTRAINT pk_devices PRIMARY KEY (device_id)
);
CREATE TABLE artifacts (
	sha256 TEXT NOT NULL, 
	name TEXT NOT NULL, 
	quant TEXT, 
	format TEXT NOT NULL, 
	size_bytes BIGINT, 
	architecture TEXT, 
	n_params BIGINT, 
	bits_per_weight DOUBLE, 
	artifact_json TEXT NOT NULL, 
	CONSTRAINT pk_artifacts PRIMARY KEY (sha256)
);
CREATE TABLE sessions (
	session_id INTEGER NOT NULL, 
	sweep_id TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	block INTEGER NOT NULL, 
	boot_id TEXT, uid TEXT, number INTEGER, apart TEXT, began_utc_ns BIGINT, rested_s DOUBLE, temperature_c DOUBLE, 
	CONSTRAINT pk_sessions PRIMARY KEY (session_id), 
	CONSTRAINT fk_sessions_sweep_id_sweeps FOREIGN KEY(sweep_id) REFERENCES sweeps (sweep_id), 
	CONSTRAINT fk_sessions_device_id_devices FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
CREATE INDEX ix_sessions_sweep_id_device_id_block ON sessions (sweep_id, device_id, block);
CREATE TABLE runs (
	run_id TEXT NOT NULL, 
	sweep_id TEXT NOT NULL, 
	session_id BIGINT NOT NULL, 
	cell_key TEXT NOT NULL, 
	"plan" TEXT NOT NULL, 
	block INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	device_id TEXT NOT NULL, 
	device_name TEXT NOT NULL, 
	os_build TEXT, 
	model TEXT NOT NULL, 
	quant TEXT, 
	artifact_sha256 TEXT NOT NULL, 
	bits_per_weight DOUBLE, 
	engine TEXT NOT NULL, 
	engine_revision TEXT, 
	workload TEXT NOT NULL, 
	n_prompt INTEGER NOT NULL, 
	n_gen INTEGER NOT NULL, 
	n_depth INTEGER NOT NULL, 
	threads INTEGER, 
	outcome TEXT NOT NULL, 
	verdict TEXT NOT NULL, 
	started_utc_ns BIGINT NOT NULL, 
	ended_utc_ns BIGINT NOT NULL, 
	melt_version TEXT NOT NULL, 
	agent_version TEXT NOT NULL, 
	format_version INTEGER NOT NULL, 
	content_sha256 TEXT NOT NULL, 
	start_json TEXT NOT NULL, 
	stop_json TEXT NOT NULL, setup_sha256 TEXT, 
	CONSTRAINT pk_runs PRIMARY KEY (run_id), 
	CONSTRAINT fk_runs_sweep_id_sweeps FOREIGN KEY(sweep_id) REFERENCES sweeps (sweep_id), 
	CONSTRAINT fk_runs_session_id_sessions FOREIGN KEY(session_id) REFERENCES sessions (session_id), 
	CONSTRAINT fk_runs_device_id_devices FOREIGN KEY(device_id) REFERENCES devices (device_id), 
	CONSTRAINT fk_runs_artifact_sha256_artifacts FOREIGN KEY(artifact_sha256) REFERENCES artifacts (sha256)
);
CREATE INDEX ix_runs_started_utc_ns ON runs (started_utc_ns);
CREATE INDEX ix_runs_sweep_id ON runs (sweep_id);
CREATE INDEX ix_runs_cell_key_started_utc_ns ON runs (cell_key, started_utc_ns);
CREATE INDEX ix_runs_device_id_started_utc_ns ON runs (device_id, started_utc_ns);
CREATE INDEX ix_runs_model_quant_started_utc_ns ON runs (model, quant, started_utc_ns);
CREATE TABLE metrics (
	run_id TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE, 
	unit TEXT NOT NULL, 
	repetition INTEGER, 
	source TEXT NOT NULL, 
	note TEXT, uncertainty DOUBLE, figures_json TEXT, 
	CONSTRAINT pk_metrics PRIMARY KEY (run_id, position), 
	CONSTRAINT fk_metrics_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
CREATE TABLE windows (
	run_id TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	phase TEXT NOT NULL, 
	t0_ns BIGINT NOT NULL, 
	t1_ns BIGINT NOT NULL, 
	repetition INTEGER, 
	warmup BOOLEAN NOT NULL, 
	n_tokens INTEGER, 
	depth INTEGER, 
	CONSTRAINT pk_windows PRIMARY KEY (run_id, position), 
	CONSTRAINT fk_windows_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
CREATE TABLE reasons (
	run_id TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	code TEXT NOT NULL, 
	message TEXT NOT NULL, 
	figures_json TEXT NOT NULL, 
	CONSTRAINT pk_reasons PRIMARY KEY (run_id, position), 
	CONSTRAINT fk_reasons_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
CREATE INDEX ix_reasons_code ON reasons (code);
CREATE TABLE traces (
	run_id TEXT NOT NULL, 
	collector TEXT NOT NULL, 
	path TEXT NOT NULL, 
	rows BIGINT NOT NULL, 
	columns INTEGER NOT NULL, 
	bytes BIGINT NOT NULL, 
	sha256 TEXT NOT NULL, 
	CONSTRAINT pk_traces PRIMARY KEY (run_id, collector), 
	CONSTRAINT fk_traces_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
CREATE TABLE attachments (
	run_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	path TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	sha256 TEXT NOT NULL, 
	CONSTRAINT pk_attachments PRIMARY KEY (run_id, name), 
	CONSTRAINT fk_attachments_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
CREATE TABLE tags (
	run_id TEXT NOT NULL, 
	tag TEXT NOT NULL, 
	CONSTRAINT pk_tags PRIMARY KEY (run_id, tag), 
	CONSTRAINT fk_tags_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
CREATE INDEX ix_tags_tag ON tags (tag);
CREATE UNIQUE INDEX ix_sessions_uid ON sessions (uid);
CREATE TABLE reviews (
	run_id TEXT NOT NULL, 
	code TEXT NOT NULL, 
	message TEXT NOT NULL, 
	figures_json TEXT NOT NULL, 
	made_utc_ns BIGINT NOT NULL, 
	melt_version TEXT NOT NULL, 
	CONSTRAINT pk_reviews PRIMARY KEY (run_id, code), 
	CONSTRAINT fk_reviews_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
CREATE INDEX ix_reviews_code ON reviews (code);
CREATE VIEW figures AS
        SELECT r.run_id, r.sweep_id, r.session_id, s.number AS session, s.apart, r.cell_key, r.block, r.started_utc_ns,
               r.device_id, r.device_name, r.os_build, r.model, r.quant, r.bits_per_weight, r.engine, r.engine_revision,
               r.workload, r.threads, r.outcome, r.verdict, m.position, m.name AS metric, m.value, m.uncertainty,
               m.unit, m.repetition, m.source, m.note
        FROM runs AS r JOIN sessions AS s ON s.session_id = r.session_id JOIN metrics AS m ON m.run_id = r.run_id;
CREATE TABLE quality (
	quality_id TEXT NOT NULL, 
	artifact_sha256 TEXT NOT NULL, 
	model TEXT NOT NULL, 
	quant TEXT, 
	kind TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	dataset_sha256 TEXT NOT NULL, 
	n_ctx INTEGER, 
	reference_sha256 TEXT, 
	engine TEXT NOT NULL, 
	engine_version TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	device_name TEXT NOT NULL, 
	evaluated_utc_ns BIGINT NOT NULL, 
	n INTEGER NOT NULL, 
	perplexity DOUBLE, 
	perplexity_se DOUBLE, 
	kl_mean DOUBLE, 
	kl_p99 DOUBLE, 
	top1_agreement DOUBLE, 
	accuracy DOUBLE, 
	accuracy_low DOUBLE, 
	accuracy_high DOUBLE, 
	accuracy_norm DOUBLE, 
	melt_version TEXT NOT NULL, 
	document_json TEXT NOT NULL, cosine_mean DOUBLE, cosine_min DOUBLE, max_error DOUBLE, 
	CONSTRAINT pk_quality PRIMARY KEY (quality_id), 
	CONSTRAINT fk_quality_artifact_sha256_artifacts FOREIGN KEY(artifact_sha256) REFERENCES artifacts (sha256)
);
CREATE INDEX ix_quality_artifact_sha256 ON quality (artifact_sha256);
CREATE TABLE acknowledgements (
	change_id TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	series_id TEXT, 
	metric TEXT, 
	sweep_id TEXT NOT NULL, 
	what TEXT NOT NULL, 
	because TEXT NOT NULL, 
	made_utc_ns BIGINT NOT NULL, 
	melt_version TEXT NOT NULL, 
	CONSTRAINT pk_acknowledgements PRIMARY KEY (change_id)
);
CREATE TABLE setups (
	setup_sha256 TEXT NOT NULL, 
	setup_json TEXT NOT NULL, 
	CONSTRAINT pk_setups PRIMARY KEY (setup_sha256)
);
CREATE INDEX ix_metrics_of_runs ON metrics (name, run_id, repetition, value, uncertainty) WHERE repetition IS NULL AND value IS NOT NULL;
INSERT INTO alembic_version VALUES ('0008')
