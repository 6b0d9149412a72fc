# Keeps this machine's buildlet running and up to date: a task that starts with the machine, as a user of its own.
# See README.md beside this file.
param(
    [string]$Program = "C:\buildlet\buildlet.exe",
    [string]$Folder = "C:\buildlet",
    [string]$User = "NT AUTHORITY\LOCAL SERVICE"
)
$ErrorActionPreference = "Stop"
$options = "stage0 --state $Folder\state -- --work $Folder\work"
$action = New-ScheduledTaskAction -Execute $Program -Argument $options
$trigger = New-ScheduledTaskTrigger -AtStartup
$settings = New-ScheduledTaskSettingsSet -RestartCount 999 -RestartInterval (New-TimeSpan -Minutes 1) -ExecutionTimeLimit 0
Register-ScheduledTask -TaskName "buildlet" -Action $action -Trigger $trigger -Settings $settings -User $User -Force
Start-ScheduledTask -TaskName "buildlet"
