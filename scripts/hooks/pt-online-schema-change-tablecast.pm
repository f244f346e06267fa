# A plugin of pt-online-schema-change (--plugin): waits before the tables are swapped until that is safe in every region.
# The tool's triggers keep the new table up to date meanwhile. docs/migrations.md says what each variable does.
#
# When TABLECAST_GIVE_UP_AFTER is over the tool ends and drops its triggers: the table stays as it was. The new table is
# left and has to be dropped (the tool says so), which drops it in every region.
package pt_online_schema_change_plugin;

use strict;
use warnings FATAL => 'all';

sub new {
   my ( $class, %args ) = @_;
   return bless { execute => $args{execute} }, $class;
}

# Before anything is made: what the wait lacks is told now, and not when hours of copying are done.
sub init {
   my ( $self, %args ) = @_;
   $self->{table} = "$args{orig_tbl}->{db}.$args{orig_tbl}->{tbl}";
   return unless $self->{execute};
   my $status = tablecast( $self->{table}, '--quiet' );
   give_up("tablecast cannot tell whether the swap of $self->{table} will be safe (exit code $status)") if $status;
   return;
}

sub before_swap_tables {
   my ($self) = @_;
   return unless $self->{execute};
   my @options = ('--wait-safe');
   push @options, '--timeout', $ENV{TABLECAST_GIVE_UP_AFTER} if $ENV{TABLECAST_GIVE_UP_AFTER};
   push @options, map { ( '--ignore-region', $_ ) } split ' ', ( $ENV{TABLECAST_IGNORE_REGIONS} || '' );
   my $status;
   # 1: the bucket or a server did not answer, which may pass. Whatever else it ends with will not.
   for my $attempt ( 1 .. 6 ) {
      $status = tablecast( $self->{table}, @options );
      last if $status != 1;
      sleep( $ENV{TABLECAST_RETRY_AFTER} || 10 ) if $attempt < 6;
   }
   give_up("the swap of $self->{table} is not safe in every region (exit code $status)") if $status;
   return;
}

# The tool cleans up after itself and would end with 0 after a plain `die`.
sub give_up {
   my ($why) = @_;
   print STDERR "$why\n";
   exit 1;
}

sub tablecast {
   my @arguments = @_;
   my $program = $ENV{TABLECAST} || 'tablecast';
   # Perl's own ways are not the program's.
   local @ENV{qw(PERL5LIB LD_LIBRARY_PATH)};
   delete @ENV{qw(PERL5LIB LD_LIBRARY_PATH)};
   system( $program, 'migrations', @arguments );
   give_up("run $program: $!") if $? == -1;
   return $? >> 8 || ( $? & 127 ? 1 : 0 );
}

1;
