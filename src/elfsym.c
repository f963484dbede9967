/* Reads an ELF file's dynamic symbol table with pread, every offset checked against what is read.
 */
#include "elfsym.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if UINTPTR_MAX > UINT32_MAX
typedef Elf64_Ehdr Header;
typedef Elf64_Shdr Section;
typedef Elf64_Sym Symbol;
#else
typedef Elf32_Ehdr Header;
typedef Elf32_Shdr Section;
typedef Elf32_Sym Symbol;
#endif

enum {
	TABLE_MAX = 64 * 1024 * 1024, /* bytes of one table of a file that we still read */
};

/* Our own ELF header, which the linker puts there: what machine a plugin must be for. */
extern const Header __ehdr_start __attribute__((visibility("hidden")));

static bool read_at(int fd, void *to, size_t len, size_t offset)
{
	char *at = to;
	while (len > 0) {
		ssize_t n = pread(fd, at, len, (off_t)offset);
		if (n <= 0)
			return false;
		at += n;
		offset += (size_t)n;
		len -= (size_t)n;
	}
	return true;
}

/* A table of the file, malloc'ed, with a NUL behind it; NULL when it is not there or too large. */
static void *read_table(int fd, size_t offset, size_t len)
{
	if (len == 0 || len > TABLE_MAX)
		return NULL;
	char *table = malloc(len + 1);
	if (table && read_at(fd, table, len, offset)) {
		table[len] = '\0';
		return table;
	}
	free(table);
	return NULL;
}

static bool check_header(const Header *header, char *why, size_t why_size)
{
	if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
		snprintf(why, why_size,
		    "it is not an ELF file; a plugin is built with cc -shared -fPIC");
	else if (memcmp(header->e_ident, __ehdr_start.e_ident, EI_VERSION) != 0 ||
		 header->e_machine != __ehdr_start.e_machine)
		snprintf(why, why_size,
		    "it is built for another machine (ELF machine %u, ours is %u); build it here",
		    (unsigned)header->e_machine, (unsigned)__ehdr_start.e_machine);
	else if (header->e_type != ET_DYN)
		snprintf(why, why_size,
		    "it is no shared object (ELF type %u); a plugin is linked with -shared",
		    (unsigned)header->e_type);
	else
		return true;
	return false;
}

/* The symbol's size where it is defined data of that name, else 0. */
static size_t data_size(const Symbol *symbol, const char *names, size_t names_len, const char *name)
{
	if (symbol->st_name >= names_len || strcmp(names + symbol->st_name, name) != 0)
		return 0;
	if (symbol->st_shndx == SHN_UNDEF || (symbol->st_info & 0xf) != STT_OBJECT)
		return 0;
	return (size_t)symbol->st_size;
}

static size_t search(int fd, const Section *dynsym, const Section *dynstr, const char *name)
{
	Symbol *symbols = read_table(fd, dynsym->sh_offset, dynsym->sh_size);
	char *names = read_table(fd, dynstr->sh_offset, dynstr->sh_size);
	size_t n = dynsym->sh_size / sizeof(Symbol), size = 0;
	for (size_t i = 0; symbols && names && i < n && size == 0; i++)
		size = data_size(&symbols[i], names, dynstr->sh_size, name);
	free(symbols);
	free(names);
	return size;
}

size_t elfsym_data_size(int fd, const char *name, char *why, size_t why_size)
{
	Header header = { 0 };
	if (!read_at(fd, &header, sizeof(header), 0)) {
		snprintf(why, why_size, "it is too short to be an ELF file");
		return 0;
	}
	if (!check_header(&header, why, why_size))
		return 0;

	size_t n = header.e_shentsize == sizeof(Section) ? header.e_shnum : 0, size = 0;
	Section *sections = read_table(fd, header.e_shoff, n * sizeof(Section));
	for (size_t i = 0; sections && i < n && size == 0; i++)
		if (sections[i].sh_type == SHT_DYNSYM && sections[i].sh_link < n)
			size = search(fd, &sections[i], &sections[sections[i].sh_link], name);
	free(sections);
	if (size == 0)
		snprintf(why, why_size,
		    "it does not export the data symbol %s; a plugin has one WARREN_PLUGIN(...) "
		    "outside of any function, and is not stripped of its section headers",
		    name);
	return size;
}
