BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE artifacts (
	sha256 TEXT NOT NULL, 
	name TEXT NOT NULL, 
	quant TEXT, 
	format TEXT NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	architecture TEXT, 
	n_params BIGINT, 
	bits_per_weight DOUBLE, 
	artifact_json TEXT NOT NULL, 
	CONSTRAINT pk_artifacts PRIMARY KEY (sha256)
);
INSERT INTO "artifacts" VALUES('74696e7971385f30000000000000000000000000000000000000000000000000','tiny-q8_0','q8_0','gguf',144000000,'llama',134515008,8.5,'{"architecture": "llama", "bits_per_weight": 8.5, "embedding_bytes": null, "format": "gguf", "kv_bytes_per_token": null, "license": null, "lossy_origin": null, "n_ctx_train": null, "n_embd": null, "n_layers": null, "n_params": 134515008, "n_vocab": null, "name": "tiny-q8_0", "notes": [], "origin_sha256": null, "path": "/models/tiny-q8_0.gguf", "quant": "q8_0", "recipe": null, "sha256": "74696e7971385f30000000000000000000000000000000000000000000000000", "size_bytes": 144000000, "tensor_types": {"f32": 4000000, "q8_0": 140000000}, "weight_bytes": null}');
INSERT INTO "artifacts" VALUES('74696e7971345f30000000000000000000000000000000000000000000000000','tiny-q4_0','q4_0','gguf',144000000,'llama',134515008,8.5,'{"architecture": "llama", "bits_per_weight": 8.5, "embedding_bytes": null, "format": "gguf", "kv_bytes_per_token": null, "license": null, "lossy_origin": null, "n_ctx_train": null, "n_embd": null, "n_layers": null, "n_params": 134515008, "n_vocab": null, "name": "tiny-q4_0", "notes": [], "origin_sha256": null, "path": "/models/tiny-q4_0.gguf", "quant": "q4_0", "recipe": null, "sha256": "74696e7971345f30000000000000000000000000000000000000000000000000", "size_bytes": 144000000, "tensor_types": {"f32": 4000000, "q8_0": 140000000}, "weight_bytes": null}');
INSERT INTO "artifacts" VALUES('74696e7966313600000000000000000000000000000000000000000000000000','tiny-f16','f16','gguf',144000000,'llama',134515008,8.5,'{"architecture": "llama", "bits_per_weight": 8.5, "embedding_bytes": null, "format": "gguf", "kv_bytes_per_token": null, "license": null, "lossy_origin": null, "n_ctx_train": null, "n_embd": null, "n_layers": null, "n_params": 134515008, "n_vocab": null, "name": "tiny-f16", "notes": [], "origin_sha256": null, "path": "/models/tiny-f16.gguf", "quant": "f16", "recipe": null, "sha256": "74696e7966313600000000000000000000000000000000000000000000000000", "size_bytes": 144000000, "tensor_types": {"f32": 4000000, "q8_0": 140000000}, "weight_bytes": null}');
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
INSERT INTO "devices" VALUES('id-local','local','local','linux','Debian 12','x86_64',NULL,17179869184,1763700240000000000,'{"accelerators": [], "arch": "x86_64", "boot_id": "b1", "clocks_locked": null, "cpu_features": [], "cpus": [{"core": null, "governor": null, "index": 0, "level": null, "max_hz": 3100000000.0, "package": null}], "device_id": "id-local", "kernel": "6.1", "kind": "local", "memory_available_bytes": null, "memory_bandwidth_bytes_per_s": null, "memory_total_bytes": 17179869184, "name": "local", "os": "linux", "os_build": "Debian 12", "power_mode": null, "soc": null, "swap_free_bytes": null, "virtualization": null}');
CREATE TABLE metrics (
	run_id TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE, 
	unit TEXT NOT NULL, 
	repetition INTEGER, 
	source TEXT NOT NULL, 
	note TEXT, 
	CONSTRAINT pk_metrics PRIMARY KEY (run_id, position), 
	CONSTRAINT fk_metrics_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
INSERT INTO "metrics" VALUES('r0',0,'decode_tps',20.0,'tok/s',0,'runner',NULL);
INSERT INTO "metrics" VALUES('r0',1,'decode_tps',20.0,'tok/s',1,'runner',NULL);
INSERT INTO "metrics" VALUES('r0',2,'decode_tps',20.0,'tok/s',2,'runner',NULL);
INSERT INTO "metrics" VALUES('r0',3,'prefill_tps',512.0,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r0',4,'decode_tps',20.0,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r0',5,'package_energy',NULL,'j',NULL,'telemetry','no energy sensor');
INSERT INTO "metrics" VALUES('r1',0,'decode_tps',30.0,'tok/s',0,'runner',NULL);
INSERT INTO "metrics" VALUES('r1',1,'decode_tps',30.0,'tok/s',1,'runner',NULL);
INSERT INTO "metrics" VALUES('r1',2,'decode_tps',30.0,'tok/s',2,'runner',NULL);
INSERT INTO "metrics" VALUES('r1',3,'prefill_tps',512.0,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r1',4,'decode_tps',30.0,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r1',5,'package_energy',NULL,'j',NULL,'telemetry','no energy sensor');
INSERT INTO "metrics" VALUES('r2',0,'decode_tps',22.0,'tok/s',0,'runner',NULL);
INSERT INTO "metrics" VALUES('r2',1,'decode_tps',22.0,'tok/s',1,'runner',NULL);
INSERT INTO "metrics" VALUES('r2',2,'decode_tps',22.0,'tok/s',2,'runner',NULL);
INSERT INTO "metrics" VALUES('r2',3,'prefill_tps',512.0,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r2',4,'decode_tps',22.0,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r2',5,'package_energy',NULL,'j',NULL,'telemetry','no energy sensor');
INSERT INTO "metrics" VALUES('r3',0,'decode_tps',34.0,'tok/s',0,'runner',NULL);
INSERT INTO "metrics" VALUES('r3',1,'decode_tps',34.0,'tok/s',1,'runner',NULL);
INSERT INTO "metrics" VALUES('r3',2,'decode_tps',34.0,'tok/s',2,'runner',NULL);
INSERT INTO "metrics" VALUES('r3',3,'prefill_tps',512.0,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r3',4,'decode_tps',34.0,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r3',5,'package_energy',NULL,'j',NULL,'telemetry','no energy sensor');
INSERT INTO "metrics" VALUES('r4',0,'prefill_tps',NULL,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r4',1,'decode_tps',NULL,'tok/s',NULL,'runner',NULL);
INSERT INTO "metrics" VALUES('r4',2,'package_energy',NULL,'j',NULL,'telemetry','no energy sensor');
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
INSERT INTO "reasons" VALUES('r4',0,'killed_by_oom','The kernel killed it.','{"rss_bytes": 9000000000.0}');
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
	stop_json TEXT NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (run_id), 
	CONSTRAINT fk_runs_sweep_id_sweeps FOREIGN KEY(sweep_id) REFERENCES sweeps (sweep_id), 
	CONSTRAINT fk_runs_session_id_sessions FOREIGN KEY(session_id) REFERENCES sessions (session_id), 
	CONSTRAINT fk_runs_device_id_devices FOREIGN KEY(device_id) REFERENCES devices (device_id), 
	CONSTRAINT fk_runs_artifact_sha256_artifacts FOREIGN KEY(artifact_sha256) REFERENCES artifacts (sha256)
);
INSERT INTO "runs" VALUES('r0','s0',1,'31857556020b','demo',0,0,'id-local','local','Debian 12','tiny','q8_0','74696e7971385f30000000000000000000000000000000000000000000000000',8.5,'llama_cpp','b9999','pp512+tg128',512,128,0,2,'ok','valid',1763700000000000000,1763700030000000000,'0.1.0','a1',1,'eef146d42add039aef0ee487ec8db54765267bdba38b6f0ab82e0a1999220d8d','{"agent_version": "a1", "artifact": {"architecture": "llama", "bits_per_weight": 8.5, "embedding_bytes": null, "format": "gguf", "kv_bytes_per_token": null, "license": null, "lossy_origin": null, "n_ctx_train": null, "n_embd": null, "n_layers": null, "n_params": 134515008, "n_vocab": null, "name": "tiny-q8_0", "notes": [], "origin_sha256": null, "path": "/models/tiny-q8_0.gguf", "quant": "q8_0", "recipe": null, "sha256": "74696e7971385f30000000000000000000000000000000000000000000000000", "size_bytes": 144000000, "tensor_types": {"f32": 4000000, "q8_0": 140000000}, "weight_bytes": null}, "calibrations": [], "chosen": [], "clock_offset_ns": null, "clock_uncertainty_ns": null, "device": {"accelerators": [], "arch": "x86_64", "boot_id": "b1", "clocks_locked": null, "cpu_features": [], "cpus": [{"core": null, "governor": null, "index": 0, "level": null, "max_hz": 3100000000.0, "package": null}], "device_id": "id-local", "kernel": "6.1", "kind": "local", "memory_available_bytes": null, "memory_bandwidth_bytes_per_s": null, "memory_total_bytes": 17179869184, "name": "local", "os": "linux", "os_build": "Debian 12", "power_mode": null, "soc": null, "swap_free_bytes": null, "virtualization": null}, "host": {}, "knobs": [], "melt_version": "0.1.0", "missing": [], "session": null, "spec": {"block": 0, "cell": null, "conditions": {"airplane": null, "brightness": null, "charging": null, "cluster": null, "fixed_performance": null, "jetson_clocks": null, "nvpmodel": null, "screen": null, "stay_awake": null, "usb_power": null, "wifi": null}, "device": "local", "engine": "llama_cpp", "gate": {"battery_min_ratio": null, "charging": null, "cpu_idle_min_ratio": null, "must_fit": true, "pause_s": null, "temperature_max_c": null, "temperature_stable_c": null, "wait_s": 600.0}, "model": "tiny", "order": null, "order_seed": null, "plan": "demo", "position": 0, "quant": "q8_0", "reference": false, "repeat": {"min_sessions": null, "repetitions": 3, "sessions": 1, "until_ci": null, "warmup": 1}, "run_id": "r0", "sampling": {"power_hz": null, "process_hz": 10.0, "sensors_hz": 10.0}, "settings": {"affinity": null, "cache_type_k": "f16", "cache_type_v": "f16", "flash_attn": "auto", "ignore_eos": true, "mmap": true, "n_batch": 2048, "n_gpu_layers": 0, "n_ubatch": 512, "page_cache": "warm", "seed": 0, "temperature": 0.0, "threads": 2, "threads_batch": null, "timeout_s": 3600.0, "trip_c": null}, "sweep_id": "s0", "workload": {"duration_s": null, "kind": "synthetic", "n_depth": 0, "n_gen": 128, "n_prompt": 512, "prompts": [], "prompts_name": null}}, "started_utc_ns": 1763700000000000000, "streams": [], "version": 1}','{"ended_utc_ns": 1763700030000000000, "evidence": {}, "outcome": "ok", "reasons": [], "run_id": "r0", "used": {"backend": "CPU", "engine_revision": "b9999", "threads": 2}, "verdict": "valid", "version": 1}');
INSERT INTO "runs" VALUES('r1','s0',1,'e2ec52ec4abd','demo',0,1,'id-local','local','Debian 12','tiny','q4_0','74696e7971345f30000000000000000000000000000000000000000000000000',8.5,'llama_cpp','b9999','pp512+tg128',512,128,0,2,'ok','valid',1763700060000000000,1763700090000000000,'0.1.0','a1',1,'e95b82f2b516dbdfa50d7cadb83d85487b3270a3d219f9aa496e97c2a0c2a4ae','{"agent_version": "a1", "artifact": {"architecture": "llama", "bits_per_weight": 8.5, "embedding_bytes": null, "format": "gguf", "kv_bytes_per_token": null, "license": null, "lossy_origin": null, "n_ctx_train": null, "n_embd": null, "n_layers": null, "n_params": 134515008, "n_vocab": null, "name": "tiny-q4_0", "notes": [], "origin_sha256": null, "path": "/models/tiny-q4_0.gguf", "quant": "q4_0", "recipe": null, "sha256": "74696e7971345f30000000000000000000000000000000000000000000000000", "size_bytes": 144000000, "tensor_types": {"f32": 4000000, "q8_0": 140000000}, "weight_bytes": null}, "calibrations": [], "chosen": [], "clock_offset_ns": null, "clock_uncertainty_ns": null, "device": {"accelerators": [], "arch": "x86_64", "boot_id": "b1", "clocks_locked": null, "cpu_features": [], "cpus": [{"core": null, "governor": null, "index": 0, "level": null, "max_hz": 3100000000.0, "package": null}], "device_id": "id-local", "kernel": "6.1", "kind": "local", "memory_available_bytes": null, "memory_bandwidth_bytes_per_s": null, "memory_total_bytes": 17179869184, "name": "local", "os": "linux", "os_build": "Debian 12", "power_mode": null, "soc": null, "swap_free_bytes": null, "virtualization": null}, "host": {}, "knobs": [], "melt_version": "0.1.0", "missing": [], "session": null, "spec": {"block": 0, "cell": null, "conditions": {"airplane": null, "brightness": null, "charging": null, "cluster": null, "fixed_performance": null, "jetson_clocks": null, "nvpmodel": null, "screen": null, "stay_awake": null, "usb_power": null, "wifi": null}, "device": "local", "engine": "llama_cpp", "gate": {"battery_min_ratio": null, "charging": null, "cpu_idle_min_ratio": null, "must_fit": true, "pause_s": null, "temperature_max_c": null, "temperature_stable_c": null, "wait_s": 600.0}, "model": "tiny", "order": null, "order_seed": null, "plan": "demo", "position": 1, "quant": "q4_0", "reference": false, "repeat": {"min_sessions": null, "repetitions": 3, "sessions": 1, "until_ci": null, "warmup": 1}, "run_id": "r1", "sampling": {"power_hz": null, "process_hz": 10.0, "sensors_hz": 10.0}, "settings": {"affinity": null, "cache_type_k": "f16", "cache_type_v": "f16", "flash_attn": "auto", "ignore_eos": true, "mmap": true, "n_batch": 2048, "n_gpu_layers": 0, "n_ubatch": 512, "page_cache": "warm", "seed": 0, "temperature": 0.0, "threads": 2, "threads_batch": null, "timeout_s": 3600.0, "trip_c": null}, "sweep_id": "s0", "workload": {"duration_s": null, "kind": "synthetic", "n_depth": 0, "n_gen": 128, "n_prompt": 512, "prompts": [], "prompts_name": null}}, "started_utc_ns": 1763700060000000000, "streams": [], "version": 1}','{"ended_utc_ns": 1763700090000000000, "evidence": {}, "outcome": "ok", "reasons": [], "run_id": "r1", "used": {"backend": "CPU", "engine_revision": "b9999", "threads": 2}, "verdict": "valid", "version": 1}');
INSERT INTO "runs" VALUES('r2','s0',2,'31857556020b','demo',1,2,'id-local','local','Debian 12','tiny','q8_0','74696e7971385f30000000000000000000000000000000000000000000000000',8.5,'llama_cpp','b9999','pp512+tg128',512,128,0,2,'ok','valid',1763700120000000000,1763700150000000000,'0.1.0','a1',1,'920e6508235e97346a92a191aa6a1216f7788027a729c24dbad419e7c60f3ee0','{"agent_version": "a1", "artifact": {"architecture": "llama", "bits_per_weight": 8.5, "embedding_bytes": null, "format": "gguf", "kv_bytes_per_token": null, "license": null, "lossy_origin": null, "n_ctx_train": null, "n_embd": null, "n_layers": null, "n_params": 134515008, "n_vocab": null, "name": "tiny-q8_0", "notes": [], "origin_sha256": null, "path": "/models/tiny-q8_0.gguf", "quant": "q8_0", "recipe": null, "sha256": "74696e7971385f30000000000000000000000000000000000000000000000000", "size_bytes": 144000000, "tensor_types": {"f32": 4000000, "q8_0": 140000000}, "weight_bytes": null}, "calibrations": [], "chosen": [], "clock_offset_ns": null, "clock_uncertainty_ns": null, "device": {"accelerators": [], "arch": "x86_64", "boot_id": "b1", "clocks_locked": null, "cpu_features": [], "cpus": [{"core": null, "governor": null, "index": 0, "level": null, "max_hz": 3100000000.0, "package": null}], "device_id": "id-local", "kernel": "6.1", "kind": "local", "memory_available_bytes": null, "memory_bandwidth_bytes_per_s": null, "memory_total_bytes": 17179869184, "name": "local", "os": "linux", "os_build": "Debian 12", "power_mode": null, "soc": null, "swap_free_bytes": null, "virtualization": null}, "host": {}, "knobs": [], "melt_version": "0.1.0", "missing": [], "session": null, "spec": {"block": 1, "cell": null, "conditions": {"airplane": null, "brightness": null, "charging": null, "cluster": null, "fixed_performance": null, "jetson_clocks": null, "nvpmodel": null, "screen": null, "stay_awake": null, "usb_power": null, "wifi": null}, "device": "local", "engine": "llama_cpp", "gate": {"battery_min_ratio": null, "charging": null, "cpu_idle_min_ratio": null, "must_fit": true, "pause_s": null, "temperature_max_c": null, "temperature_stable_c": null, "wait_s": 600.0}, "model": "tiny", "order": null, "order_seed": null, "plan": "demo", "position": 2, "quant": "q8_0", "reference": false, "repeat": {"min_sessions": null, "repetitions": 3, "sessions": 1, "until_ci": null, "warmup": 1}, "run_id": "r2", "sampling": {"power_hz": null, "process_hz": 10.0, "sensors_hz": 10.0}, "settings": {"affinity": null, "cache_type_k": "f16", "cache_type_v": "f16", "flash_attn": "auto", "ignore_eos": true, "mmap": true, "n_batch": 2048, "n_gpu_layers": 0, "n_ubatch": 512, "page_cache": "warm", "seed": 0, "temperature": 0.0, "threads": 2, "threads_batch": null, "timeout_s": 3600.0, "trip_c": null}, "sweep_id": "s0", "workload": {"duration_s": null, "kind": "synthetic", "n_depth": 0, "n_gen": 128, "n_prompt": 512, "prompts": [], "prompts_name": null}}, "started_utc_ns": 1763700120000000000, "streams": [], "version": 1}','{"ended_utc_ns": 1763700150000000000, "evidence": {}, "outcome": "ok", "reasons": [], "run_id": "r2", "used": {"backend": "CPU", "engine_revision": "b9999", "threads": 2}, "verdict": "valid", "version": 1}');
INSERT INTO "runs" VALUES('r3','s0',2,'e2ec52ec4abd','demo',1,3,'id-local','local','Debian 12','tiny','q4_0','74696e7971345f30000000000000000000000000000000000000000000000000',8.5,'llama_cpp','b9999','pp512+tg128',512,128,0,2,'ok','valid',1763700180000000000,1763700210000000000,'0.1.0','a1',1,'ca4de37a215ad2fcbc2620b6857e166b2e8394079aa387d65868eac5ebd81264','{"agent_version": "a1", "artifact": {"architecture": "llama", "bits_per_weight": 8.5, "embedding_bytes": null, "format": "gguf", "kv_bytes_per_token": null, "license": null, "lossy_origin": null, "n_ctx_train": null, "n_embd": null, "n_layers": null, "n_params": 134515008, "n_vocab": null, "name": "tiny-q4_0", "notes": [], "origin_sha256": null, "path": "/models/tiny-q4_0.gguf", "quant": "q4_0", "recipe": null, "sha256": "74696e7971345f30000000000000000000000000000000000000000000000000", "size_bytes": 144000000, "tensor_types": {"f32": 4000000, "q8_0": 140000000}, "weight_bytes": null}, "calibrations": [], "chosen": [], "clock_offset_ns": null, "clock_uncertainty_ns": null, "device": {"accelerators": [], "arch": "x86_64", "boot_id": "b1", "clocks_locked": null, "cpu_features": [], "cpus": [{"core": null, "governor": null, "index": 0, "level": null, "max_hz": 3100000000.0, "package": null}], "device_id": "id-local", "kernel": "6.1", "kind": "local", "memory_available_bytes": null, "memory_bandwidth_bytes_per_s": null, "memory_total_bytes": 17179869184, "name": "local", "os": "linux", "os_build": "Debian 12", "power_mode": null, "soc": null, "swap_free_bytes": null, "virtualization": null}, "host": {}, "knobs": [], "melt_version": "0.1.0", "missing": [], "session": null, "spec": {"block": 1, "cell": null, "conditions": {"airplane": null, "brightness": null, "charging": null, "cluster": null, "fixed_performance": null, "jetson_clocks": null, "nvpmodel": null, "screen": null, "stay_awake": null, "usb_power": null, "wifi": null}, "device": "local", "engine": "llama_cpp", "gate": {"battery_min_ratio": null, "charging": null, "cpu_idle_min_ratio": null, "must_fit": true, "pause_s": null, "temperature_max_c": null, "temperature_stable_c": null, "wait_s": 600.0}, "model": "tiny", "order": null, "order_seed": null, "plan": "demo", "position": 3, "quant": "q4_0", "reference": false, "repeat": {"min_sessions": null, "repetitions": 3, "sessions": 1, "until_ci": null, "warmup": 1}, "run_id": "r3", "sampling": {"power_hz": null, "process_hz": 10.0, "sensors_hz": 10.0}, "settings": {"affinity": null, "cache_type_k": "f16", "cache_type_v": "f16", "flash_attn": "auto", "ignore_eos": true, "mmap": true, "n_batch": 2048, "n_gpu_layers": 0, "n_ubatch": 512, "page_cache": "warm", "seed": 0, "temperature": 0.0, "threads": 2, "threads_batch": null, "timeout_s": 3600.0, "trip_c": null}, "sweep_id": "s0", "workload": {"duration_s": null, "kind": "synthetic", "n_depth": 0, "n_gen": 128, "n_prompt": 512, "prompts": [], "prompts_name": null}}, "started_utc_ns": 1763700180000000000, "streams": [], "version": 1}','{"ended_utc_ns": 1763700210000000000, "evidence": {}, "outcome": "ok", "reasons": [], "run_id": "r3", "used": {"backend": "CPU", "engine_revision": "b9999", "threads": 2}, "verdict": "valid", "version": 1}');
INSERT INTO "runs" VALUES('r4','s0',2,'94a37f7c5fa5','demo',1,4,'id-local','local','Debian 12','tiny','f16','74696e7966313600000000000000000000000000000000000000000000000000',8.5,'llama_cpp','b9999','pp512+tg128',512,128,0,2,'oom','invalid',1763700240000000000,1763700270000000000,'0.1.0','a1',1,'8f75d771c957faa8a808f2350a95e8e72ca6a55c8c11b732f42c732757b0fb56','{"agent_version": "a1", "artifact": {"architecture": "llama", "bits_per_weight": 8.5, "embedding_bytes": null, "format": "gguf", "kv_bytes_per_token": null, "license": null, "lossy_origin": null, "n_ctx_train": null, "n_embd": null, "n_layers": null, "n_params": 134515008, "n_vocab": null, "name": "tiny-f16", "notes": [], "origin_sha256": null, "path": "/models/tiny-f16.gguf", "quant": "f16", "recipe": null, "sha256": "74696e7966313600000000000000000000000000000000000000000000000000", "size_bytes": 144000000, "tensor_types": {"f32": 4000000, "q8_0": 140000000}, "weight_bytes": null}, "calibrations": [], "chosen": [], "clock_offset_ns": null, "clock_uncertainty_ns": null, "device": {"accelerators": [], "arch": "x86_64", "boot_id": "b1", "clocks_locked": null, "cpu_features": [], "cpus": [{"core": null, "governor": null, "index": 0, "level": null, "max_hz": 3100000000.0, "package": null}], "device_id": "id-local", "kernel": "6.1", "kind": "local", "memory_available_bytes": null, "memory_bandwidth_bytes_per_s": null, "memory_total_bytes": 17179869184, "name": "local", "os": "linux", "os_build": "Debian 12", "power_mode": null, "soc": null, "swap_free_bytes": null, "virtualization": null}, "host": {}, "knobs": [], "melt_version": "0.1.0", "missing": [], "session": null, "spec": {"block": 1, "cell": null, "conditions": {"airplane": null, "brightness": null, "charging": null, "cluster": null, "fixed_performance": null, "jetson_clocks": null, "nvpmodel": null, "screen": null, "stay_awake": null, "usb_power": null, "wifi": null}, "device": "local", "engine": "llama_cpp", "gate": {"battery_min_ratio": null, "charging": null, "cpu_idle_min_ratio": null, "must_fit": true, "pause_s": null, "temperature_max_c": null, "temperature_stable_c": null, "wait_s": 600.0}, "model": "tiny", "order": null, "order_seed": null, "plan": "demo", "position": 4, "quant": "f16", "reference": false, "repeat": {"min_sessions": null, "repetitions": 3, "sessions": 1, "until_ci": null, "warmup": 1}, "run_id": "r4", "sampling": {"power_hz": null, "process_hz": 10.0, "sensors_hz": 10.0}, "settings": {"affinity": null, "cache_type_k": "f16", "cache_type_v": "f16", "flash_attn": "auto", "ignore_eos": true, "mmap": true, "n_batch": 2048, "n_gpu_layers": 0, "n_ubatch": 512, "page_cache": "warm", "seed": 0, "temperature": 0.0, "threads": 2, "threads_batch": null, "timeout_s": 3600.0, "trip_c": null}, "sweep_id": "s0", "workload": {"duration_s": null, "kind": "synthetic", "n_depth": 0, "n_gen": 128, "n_prompt": 512, "prompts": [], "prompts_name": null}}, "started_utc_ns": 1763700240000000000, "streams": [], "version": 1}','{"ended_utc_ns": 1763700270000000000, "evidence": {"exit": "9"}, "outcome": "oom", "reasons": [{"code": "killed_by_oom", "figures": {"rss_bytes": 9000000000.0}, "message": "The kernel killed it."}], "run_id": "r4", "used": {"backend": "CPU", "engine_revision": "b9999", "threads": 2}, "verdict": "invalid", "version": 1}');
CREATE TABLE sessions (
	session_id INTEGER NOT NULL, 
	sweep_id TEXT NOT NULL, 
	device_id TEXT NOT NULL, 
	block INTEGER NOT NULL, 
	boot_id TEXT, 
	CONSTRAINT pk_sessions PRIMARY KEY (session_id), 
	CONSTRAINT fk_sessions_sweep_id_sweeps FOREIGN KEY(sweep_id) REFERENCES sweeps (sweep_id), 
	CONSTRAINT fk_sessions_device_id_devices FOREIGN KEY(device_id) REFERENCES devices (device_id)
);
INSERT INTO "sessions" VALUES(1,'s0','id-local',0,'b1');
INSERT INTO "sessions" VALUES(2,'s0','id-local',1,'b1');
CREATE TABLE sweeps (
	sweep_id TEXT NOT NULL, 
	"plan" TEXT NOT NULL, 
	started_utc_ns BIGINT NOT NULL, 
	CONSTRAINT pk_sweeps PRIMARY KEY (sweep_id)
);
INSERT INTO "sweeps" VALUES('s0','demo',1763700000000000000);
CREATE TABLE tags (
	run_id TEXT NOT NULL, 
	tag TEXT NOT NULL, 
	CONSTRAINT pk_tags PRIMARY KEY (run_id, tag), 
	CONSTRAINT fk_tags_run_id_runs FOREIGN KEY(run_id) REFERENCES runs (run_id)
)
 WITHOUT ROWID

;
INSERT INTO "tags" VALUES('r1','nightly');
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
INSERT INTO "windows" VALUES('r0',0,'load',1000000000,1400000000,NULL,0,NULL,NULL);
INSERT INTO "windows" VALUES('r0',1,'prefill',2000000000,2999999999,0,1,512,0);
INSERT INTO "windows" VALUES('r0',2,'decode',3000000000,3499999999,0,1,128,512);
INSERT INTO "windows" VALUES('r0',3,'prefill',4000000000,5000000000,0,0,512,0);
INSERT INTO "windows" VALUES('r0',4,'decode',5000000000,5500000000,0,0,128,512);
INSERT INTO "windows" VALUES('r0',5,'prefill',6000000000,7000000001,1,0,512,0);
INSERT INTO "windows" VALUES('r0',6,'decode',7000000000,7500000001,1,0,128,512);
INSERT INTO "windows" VALUES('r0',7,'prefill',8000000000,9000000002,2,0,512,0);
INSERT INTO "windows" VALUES('r0',8,'decode',9000000000,9500000002,2,0,128,512);
INSERT INTO "windows" VALUES('r1',0,'load',1000000000,1400000000,NULL,0,NULL,NULL);
INSERT INTO "windows" VALUES('r1',1,'prefill',2000000000,2999999999,0,1,512,0);
INSERT INTO "windows" VALUES('r1',2,'decode',3000000000,3499999999,0,1,128,512);
INSERT INTO "windows" VALUES('r1',3,'prefill',4000000000,5000000000,0,0,512,0);
INSERT INTO "windows" VALUES('r1',4,'decode',5000000000,5500000000,0,0,128,512);
INSERT INTO "windows" VALUES('r1',5,'prefill',6000000000,7000000001,1,0,512,0);
INSERT INTO "windows" VALUES('r1',6,'decode',7000000000,7500000001,1,0,128,512);
INSERT INTO "windows" VALUES('r1',7,'prefill',8000000000,9000000002,2,0,512,0);
INSERT INTO "windows" VALUES('r1',8,'decode',9000000000,9500000002,2,0,128,512);
INSERT INTO "windows" VALUES('r2',0,'load',1000000000,1400000000,NULL,0,NULL,NULL);
INSERT INTO "windows" VALUES('r2',1,'prefill',2000000000,2999999999,0,1,512,0);
INSERT INTO "windows" VALUES('r2',2,'decode',3000000000,3499999999,0,1,128,512);
INSERT INTO "windows" VALUES('r2',3,'prefill',4000000000,5000000000,0,0,512,0);
INSERT INTO "windows" VALUES('r2',4,'decode',5000000000,5500000000,0,0,128,512);
INSERT INTO "windows" VALUES('r2',5,'prefill',6000000000,7000000001,1,0,512,0);
INSERT INTO "windows" VALUES('r2',6,'decode',7000000000,7500000001,1,0,128,512);
INSERT INTO "windows" VALUES('r2',7,'prefill',8000000000,9000000002,2,0,512,0);
INSERT INTO "windows" VALUES('r2',8,'decode',9000000000,9500000002,2,0,128,512);
INSERT INTO "windows" VALUES('r3',0,'load',1000000000,1400000000,NULL,0,NULL,NULL);
INSERT INTO "windows" VALUES('r3',1,'prefill',2000000000,2999999999,0,1,512,0);
INSERT INTO "windows" VALUES('r3',2,'decode',3000000000,3499999999,0,1,128,512);
INSERT INTO "windows" VALUES('r3',3,'prefill',4000000000,5000000000,0,0,512,0);
INSERT INTO "windows" VALUES('r3',4,'decode',5000000000,5500000000,0,0,128,512);
INSERT INTO "windows" VALUES('r3',5,'prefill',6000000000,7000000001,1,0,512,0);
INSERT INTO "windows" VALUES('r3',6,'decode',7000000000,7500000001,1,0,128,512);
INSERT INTO "windows" VALUES('r3',7,'prefill',8000000000,9000000002,2,0,512,0);
INSERT INTO "windows" VALUES('r3',8,'decode',9000000000,9500000002,2,0,128,512);
CREATE INDEX ix_sessions_sweep_id_device_id_block ON sessions (sweep_id, device_id, block);
CREATE INDEX ix_runs_started_utc_ns ON runs (started_utc_ns);
CREATE INDEX ix_runs_sweep_id ON runs (sweep_id);
CREATE INDEX ix_runs_cell_key_started_utc_ns ON runs (cell_key, started_utc_ns);
CREATE INDEX ix_runs_device_id_started_utc_ns ON runs (device_id, started_utc_ns);
CREATE INDEX ix_runs_model_quant_started_utc_ns ON runs (model, quant, started_utc_ns);
CREATE INDEX ix_metrics_name_run_id ON metrics (name, run_id);
CREATE INDEX ix_reasons_code ON reasons (code);
CREATE INDEX ix_tags_tag ON tags (tag);
CREATE VIEW figures AS
        SELECT r.run_id, r.sweep_id, r.session_id, r.cell_key, r.block, r.started_utc_ns, r.device_id, r.device_name,
               r.os_build, r.model, r.quant, r.bits_per_weight, r.engine, r.engine_revision, r.workload, r.threads,
               r.outcome, r.verdict, m.position, m.name AS metric, m.value, m.unit, m.repetition, m.note
        FROM runs AS r JOIN metrics AS m ON m.run_id = r.run_id;
COMMIT;
