/* The configuration's door: text or file in; frozen struct conf, or all its errors, out. Floor 1.
 */
#include "conf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_read.h"
#include "text.h"

/* ---- errors ---- */

static char *PRINTF_LIKE(1, 0) format(const char *fmt, va_list args)
{
	CHECK(fmt);
	va_list again;
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	CHECK(len >= 0);
	char *text = calloc((size_t)len + 1, 1);
	if (text)
		(void)vsnprintf(text, (size_t)len + 1, fmt, args);
	return text;
}

/* Kept in the order of their lines; of one line, in the order of their coming. Takes `text`. */
static void insert(struct conf_errors *errors, const char *file, unsigned line, char *text)
{
	struct conf_error *list = text ? calloc(errors->n + 1, sizeof(*list)) : NULL;
	size_t before = 0;
	if (!list) {
		free(text);
		errors->shortage = true;
		return;
	}
	while (before < errors->n && errors->list[before].line <= line)
		before++;
	for (size_t i = 0; i < errors->n; i++)
		list[i + (i >= before)] = errors->list[i];
	list[before] = (struct conf_error){ .file = file, .line = line, .text = text };
	free(errors->list);
	errors->list = list;
	errors->n++;
}

void conf_errors_add(
    struct conf_errors *errors, const char *file, unsigned line, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	insert(errors, file, line, format(fmt, args));
	va_end(args);
}

void conf_errors_free(struct conf_errors *errors)
{
	for (size_t i = 0; i < errors->n; i++)
		free(errors->list[i].text);
	free(errors->list);
	*errors = (struct conf_errors){ 0 };
}

int conf_errors_code(const struct conf_errors *errors)
{
	if (errors->shortage)
		return EXIT_OS;
	return errors->refused ? EXIT_REFUSED : EXIT_CONFIG;
}

void conf_errors_print(const struct conf_errors *errors, void *stream)
{
	for (size_t i = 0; i < errors->n; i++) {
		const struct conf_error *error = &errors->list[i];
		text_print(error->file, stream);
		if (error->line > 0)
			(void)fprintf(stream, ":%u", error->line);
		(void)fputs(": ", stream);
		text_print(error->text, stream);
		(void)fputc('\n', stream);
	}
}

/* ---- what the readers stand on ---- */

void reader_wrong(struct reader *r, unsigned line, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	insert(r->errors, r->path, line, or_die(format(fmt, args)));
	va_end(args);
}

bool reader_has_wrong(const struct reader *r, unsigned line)
{
	for (size_t i = 0; i < r->errors->n; i++)
		if (r->errors->list[i].line == line)
			return true;
	return false;
}

void reader_warn(struct reader *r, unsigned line, const char *fmt, ...)
{
	if (!r->warnings)
		return;
	va_list args;
	va_start(args, fmt);
	insert(r->warnings, r->path, line, or_die(format(fmt, args)));
	va_end(args);
}

void *reader_zalloc(struct reader *r, size_t n, size_t size)
{
	return or_die(arena_zalloc(r->arena, n, size)); /* the product may overflow, too */
}

char *reader_printf(struct reader *r, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	char *text = or_die(format(fmt, args));
	va_end(args);
	char *copy = or_die(arena_dup(r->arena, text, strlen(text)));
	free(text);
	return copy;
}

char *reader_path(struct reader *r, const char *folder, const char *name)
{
	if (name[0] == '/')
		return reader_printf(r, "%s", name);
	return reader_printf(r, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, name);
}

/* The folder of the file at `path`, absolute. It need not exist. */
static const char *folder_of(struct reader *r, const char *path)
{
	char *cwd = getcwd(NULL, 0);
	if (!cwd && errno == ENOMEM)
		or_die(NULL);
	char *whole = reader_path(r, cwd ? cwd : "/", path);
	free(cwd);
	char *slash = strrchr(whole, '/');
	*(slash == whole ? slash + 1 : slash) = '\0';
	return whole;
}

/* ---- the door ---- */

static bool holds_password(const struct conf *conf)
{
	for (size_t i = 0; i < conf->broker.n_urls; i++)
		if (conf->broker.urls[i].has_password)
			return true;
	return false;
}

/* Line by line what the configuration says of other files, and of its own mode. */
static void check_files(struct reader *r, const struct conf *conf, unsigned mode)
{
	if (holds_password(conf) && (mode & S_IROTH)) {
		reader_wrong(r, conf_line(r, "broker.urls"),
		    "%s (mode %04o) holds a password and is readable by others: chmod o= it, or "
		    "move the "
		    "password to broker.password_file",
		    r->path, mode & 07777);
		r->errors->refused = true;
	}
	const struct conf_tls *tls = &conf->broker.tls;
	struct {
		const char *setting;
		const char *file;
	} secrets[] = {
		{ "broker.password_file", conf->broker.password_file },
		{ "broker.tls.key_password_file", tls->key_password_file },
	};
	for (size_t i = 0; i < ARRAY_LEN(secrets); i++)
		if (secrets[i].file)
			conf_check_secret(r, secrets[i].setting, secrets[i].file);
	conf_check_file(r, "broker.tls.ca_file", tls->ca_file, false);
	conf_check_file(r, "broker.tls.cert_file", tls->cert_file, false);
	conf_check_file(r, "broker.tls.key_file", tls->key_file, true);
}

/* `file` is NULL where only the text is known, not the file that it came from. */
static struct conf *parse(const char *path, struct arena *arena, const char *text,
    const struct conf_file *file, struct conf_errors *errors, struct conf_errors *warnings)
{
	size_t errors_before = errors->n;
	struct reader r = { .path = path,
		.arena = arena ? arena : or_die(arena_create()),
		.errors = errors,
		.warnings = warnings };
	arena_insist(r.arena);
	r.folder = folder_of(&r, path);
	struct conf *conf = reader_zalloc(&r, 1, sizeof(*conf));
	conf->arena = r.arena;
	conf->path = reader_printf(&r, "%s", path);

	if (conf_scan(&r, text) && conf_read(&r, text, conf)) {
		conf_check(&r, conf);
		if (file)
			check_files(&r, conf, file->mode);
	}
	conf_read_done(&r);
	if (errors->n == errors_before && !errors->shortage)
		return conf;
	if (!arena)
		conf_free(conf);
	return NULL;
}

struct conf *conf_parse(
    const char *path, const char *text, struct conf_errors *errors, struct conf_errors *warnings)
{
	return parse(path, NULL, text, NULL, errors, warnings);
}

struct conf *conf_load_text(const char *path, struct arena *arena, char **text, size_t *len,
    struct conf_errors *errors, struct conf_errors *warnings)
{
	struct conf_file file;
	if (!conf_open_file(path, &file, errors))
		return NULL;
	struct conf *conf = parse(path, arena, file.text, &file, errors, warnings);
	if (conf && text) {
		*text = file.text;
		*len = file.len;
		return conf;
	}
	explicit_bzero(file.text, file.len);
	free(file.text);
	return conf;
}

struct conf *conf_load(const char *path, struct conf_errors *errors, struct conf_errors *warnings)
{
	return conf_load_text(path, NULL, NULL, NULL, errors, warnings);
}

void conf_free(struct conf *conf)
{
	if (!conf)
		return;
	for (size_t i = 0; i < conf->broker.n_urls; i++)
		if (conf->broker.urls[i].password)
			explicit_bzero(
			    conf->broker.urls[i].password, strlen(conf->broker.urls[i].password));
	arena_destroy(conf->arena); /* holds conf itself */
}
